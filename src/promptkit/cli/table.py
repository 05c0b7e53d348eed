"""Tables for people, by rich; imported only when one is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import StringIO
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNCUT: Final = 10_000


_WORDS: Final = {
    "ok": "green",
    "yes": "green",
    "truncated": "yellow",
    "degraded": "yellow",
    "warn": "yellow",
    "unknown": "yellow",
    "open": "yellow",
    "refused": "red",
    "failed": "red",
    "fail": "red",
}
"""Cells that carry a verdict, and the colour that says it at a glance."""


def drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None, color: bool) -> str:
    """Draw rows of texts for stdout.

    A column whose name begins with `>` is set to the right; one with `~` is folded where the
    terminal is too narrow. Off a terminal nothing is folded or cut.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        border_style="dim",
    )
    for place, column in enumerate(columns):
        right, folds = column.startswith(">"), column.startswith("~")
        name = column.lstrip(">~")
        table.add_column(
            name,
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=not folds,
            min_width=None if folds else max(cell_len(name), *(cell_len(row[place]) for row in rows), 0),
        )
    for row in rows:
        # Text, not markup: a reply that says [bold] is shown as it is.
        table.add_row(*(Text(cell, style=_WORDS.get(cell, "")) for cell in row))
    width = None if sys.stdout.isatty() else _UNCUT
    # Not on stdout itself: rich would write there, where a full disk has to become an error of ours.
    drawing = StringIO()
    Console(file=drawing, width=width, force_terminal=color, no_color=not color, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in drawing.getvalue().split("\n")).rstrip("\n")
