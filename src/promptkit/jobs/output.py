"""The output file of a job: written from the ledger, in the input's order, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from promptkit.batch import Dialect, Format, Layout, layout, output_format, writer
from promptkit.batch.naming import is_pattern
from promptkit.errors import OutputError
from promptkit.ledger import JobRecord, Ledger
from promptkit.types import Json, RowResult

from .keeping import has_all
from .remembered import pinned_options
from .results import from_ledger
from .whole import replacing

_PAGE: Final = 500


def stored_results(
    ledger: Ledger, job: JobRecord, read: Callable[[Json], object] | None = None
) -> Iterator[RowResult]:
    """The results of a job that the ledger has, in the input's order, page by page."""
    after = -1
    while page := ledger.rows_in_order(job.id, after, _PAGE):
        after = page[-1].row.position
        for out in page:
            result = from_ledger(out, job.schema, read)
            if result is not None:
                yield result


def layout_of(job: JobRecord) -> Layout:
    """The columns of a job's output."""
    return layout(
        job.columns,
        job.schema,
        flagged=bool(job.options.get("checks")),
        text_as=pinned_options(job).text_as,
    )


def write_output(
    ledger: Ledger, job: JobRecord, out: Path, *, format_: Format | None = None, like: Dialect, mark: bool
) -> int:
    """Write the results of a job into a file, which appears whole or not at all.

    Args:
        ledger: where the results are.
        job: the job.
        out: the file, or with columns in braces the pattern of one a row.
        format_: what the user says; else the file's extension, else the input's.
        like: how the input is written; CSV follows its delimiter.
        mark: whether CSV begins with a byte order mark, for Excel.

    Returns:
        How many rows were written.

    Raises:
        OutputError: it can't be written, or what stands there has texts that the ledger no longer
            has; what stood there before still stands.
    """
    if is_pattern(str(out)):
        from .pieces import write_pieces

        return write_pieces(ledger, job, str(out))
    kept, erased = ledger.texts(job.id)
    if erased and out.is_file():
        if kept and not has_all(ledger, job, out):
            raise OutputError(
                f"stands already, and {erased:,} of the texts in it are kept nowhere else",
                file=out,
                remedy="Write the new rows to another file with -o.",
            )
        return sum(ledger.row_counts(job.id).values())
    chosen = output_format(out.name, like, format_)
    parts = 0
    try:
        with replacing(out) as file:
            for part in encoded(ledger, job, chosen, like=like, mark=mark):
                file.write(part)
                parts += 1
    except OSError as cause:
        raise OutputError(
            f"can't be written: {cause.strerror}",
            file=out,
            remedy="The results are in the ledger: make room, then run the same command again; nothing is paid twice.",
        ) from cause
    return parts - 2  # without what stands before and after the rows


def encoded(
    ledger: Ledger, job: JobRecord, format_: Format, *, like: Dialect, mark: bool = False
) -> Iterator[bytes]:
    """The output as it is written: what stands before the rows, each row, what stands after them."""
    rows = layout_of(job)
    delimiter = like.delimiter if like.format is Format.CSV else ","
    encode = writer(format_, rows.header, delimiter=delimiter, mark=mark)
    yield encode.start
    for result in stored_results(ledger, job):
        yield encode.row(rows.record(result))
    yield encode.end
