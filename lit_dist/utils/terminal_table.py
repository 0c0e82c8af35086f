"""Tables in the terminal."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column holds names and whose others hold numbers."""
    # As Text, since rich takes a name such as [/] for markup.
    table = Table(title=Text(title, "table.title"), box=SIMPLE, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
