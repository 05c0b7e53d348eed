"""The file of failed rows: an input of its own, once it is corrected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from promptkit.batch import Format, output_format, writer
from promptkit.batch.failed import ADDED, WHERE, WHY, guarded
from promptkit.errors import OutputError
from promptkit.ledger import JobRecord, Ledger, RowState
from promptkit.types import Json

from .remembered import Manner
from .results import from_ledger
from .whole import replacing

_FAILED: Final = (RowState.FAILED, RowState.REFUSED, RowState.INVALID)
_PAGE: Final = 500


def write_failed(ledger: Ledger, job: JobRecord, path: Path, manner: Manner) -> int:
    """Write the rows that have no text, with their reasons; returns how many.

    Args:
        ledger: where the rows are.
        job: the job.
        path: the file; its extension decides the format, else it is the input's.
        manner: how the input is written, which the file follows.

    Raises:
        OutputError: it can't be written; what stood there before still stands.
    """
    format_ = output_format(path.name, manner.like)
    table = format_ in {Format.CSV, Format.TSV}
    delimiter = manner.like.delimiter if manner.like.format is Format.CSV else ","
    encode = writer(
        format_,
        (*job.columns, *ADDED),
        delimiter=delimiter,
        mark=manner.mark,
        guard=guarded if table else None,
    )
    count = 0
    try:
        with replacing(path) as file:
            file.write(encode.start)
            for cells in _failed_cells(ledger, job):
                file.write(encode.row(cells))
                count += 1
            file.write(encode.end)
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path) from cause
    return count


def _failed_cells(ledger: Ledger, job: JobRecord) -> Iterator[dict[str, Json]]:
    after = -1
    while page := ledger.rows_in_order(job.id, after, _PAGE):
        after = page[-1].row.position
        for out in page:
            if out.row.state in _FAILED:
                result = from_ledger(out, job.schema)
                why = None if result is None else result.error
                where = f"{job.input_path}:{out.row.line}"
                yield {**(out.row.passthrough or {}), WHY: why, WHERE: where}
