"""Tables for people, by rich; imported only when one is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 200


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None, color: bool
) -> None:
    """Print rows of texts. Off a terminal nothing is cut to fit."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a reply that says [bold] is shown as it is.
        table.add_row(*(Text(cell) for cell in row))
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(file=sys.stdout, width=width, no_color=not color, highlight=False).print(table)
