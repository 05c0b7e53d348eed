"""The list of failed rows: a table like the input, so that it can be corrected and be an input itself.

Two columns are added: why the row failed, and where it stood. A reader of rows leaves them out
again. In CSV and TSV a cell that a spreadsheet would run gets an apostrophe in front, as in every
output; here it is taken off when the list is read, so that no value has changed on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from promptkit.types import Json

from .binding import cell_text
from .lines import Record
from .output import neutral

WHY: Final = "promptkit_failed"
WHERE: Final = "promptkit_failed_at"
ADDED: Final = (WHY, WHERE)

_GUARDED: Final = re.compile(r"'+[=+\-@\t\r]")


def guarded(cell: Json) -> str:
    """A cell as it is written into a table: text that would run, or looks guarded already, has one apostrophe more."""
    text = cell_text(cell)
    return f"'{text}" if _GUARDED.match(text) or neutral(text) != text else text


def unguarded(cell: Json) -> Json:
    """The cell that was guarded."""
    return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell


def as_input(records: Iterable[Record], *, table: bool) -> Iterator[Record]:
    """The rows of a list of failed rows, as they were before; other rows as they are.

    Args:
        records: as read.
        table: whether they come from CSV or TSV, whose cells were guarded.
    """
    for record in records:
        if WHY in record.cells:
            yield Record(record.number, record.line, _before(record.cells, table=table), record.broken)
        else:
            yield record


def _before(cells: Mapping[str, Json], *, table: bool) -> dict[str, Json]:
    kept = {name: cell for name, cell in cells.items() if name not in ADDED}
    return {name: unguarded(cell) for name, cell in kept.items()} if table else kept
