"""The pages of the documentation, their links, headings and commands."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")),
    *DOCS,
]


@cache
def tokens(page: Path) -> list[Token]:
    """A page in its parts, inline ones included."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [part for block in blocks for part in (block, *(block.children or ()))]


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead to."""
    found = [
        each.attrGet("href") or each.attrGet("src") for each in tokens(page) if each.type in ("link_open", "image")
    ]
    return [str(each) for each in found]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them, and those that the reference's entries have on the site."""
    titles = [after for each, after in pairwise(tokens(page)) if each.type == "heading_open"]
    texts = ["".join(part.content for part in title.children or ()) for title in titles]
    entries = {each.content.removeprefix("::: ") for each in tokens(page) if each.content.startswith("::: ")}
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts} | entries


def sections(page: Path) -> dict[str, str]:
    """The text below each of a page's headings of the second rank, in their order."""
    _, *parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def code(page: Path, language: str) -> Iterator[str]:
    """The blocks of code in a language, and those that are indented and name none."""
    for each in tokens(page):
        if each.type == "code_block" or (each.type == "fence" and each.info == language):
            yield each.content


def inline_code(page: Path) -> list[str]:
    """The code within lines of text."""
    return [each.content for each in tokens(page) if each.type == "code_inline"]
