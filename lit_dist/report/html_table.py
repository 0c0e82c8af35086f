"""Tables of a report, as HTML."""

import html
import re
from typing import Any

import pandas as pd

_NAMES = re.compile(r"<(t[dh])>(?=[^<]*[^\W\d_]{3})((?:[^<]|<br>){24,})</")
"""Cells that hold a long name, or a sentence, and no numbers."""


def escaped(value: Any) -> str:
    """A text that is shown as it is."""
    return html.escape(str(value))


def number(value: Any) -> str:
    """A number with three digits behind its point; nothing where it is not defined."""
    return "" if pd.isna(value) else f"{value:.3f}"


def span(low: Any, high: Any) -> str:
    """An interval; nothing where there is none."""
    return "" if pd.isna(low) else f"{low:.3f} to {high:.3f}"


def with_span(text: str, low: Any, high: Any) -> str:
    """A value with its interval in brackets, if there is one."""
    return text if pd.isna(low) else f"{text} ({span(low, high)})"


def p_value(value: float) -> str:
    """A p value."""
    return "&lt; 0.001" if value < 0.001 else number(value)


def table(rows: pd.DataFrame) -> str:
    """A table whose cells are HTML, which scrolls by itself where it is wide."""
    cells = _NAMES.sub(r'<\1 class="name">\2</', rows.to_html(index=False, border=0, escape=False))
    return f'<div class="table" tabindex="0">{cells}</div>'


def folded(title: str, content: str) -> str:
    """What is shown where somebody asks for it; the title is a text."""
    return f"<details><summary>{escaped(title)}</summary>{content}</details>"
