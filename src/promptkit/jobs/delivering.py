"""Where a job's rows go when a run is over: into the output file, and the failed ones into one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from promptkit.batch import Format
from promptkit.batch.naming import is_pattern
from promptkit.errors import OutputError, UsageError, counted

from .failed import write_failed
from .output import write_output
from .pieces import check_pieces
from .remembered import Manner, pinned_output, plain_output
from .source import FileReading, FileSource

if TYPE_CHECKING:
    from promptkit.ledger import Ledger

    from .job import Job

_WORKBOOKS: Final = frozenset({".xlsx", ".xls", ".ods", ".numbers"})
_LOOKED_AT: Final = 1000
"""Rows after which an encoding that is still open is taken for UTF-8."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The files of a run: the output (a pattern makes one a row), and that of the failed rows; None for none."""

    out: Path | None = None
    format: Format | None = None
    failed: Path | None = None

    def __bool__(self) -> bool:
        return self.out is not None or self.failed is not None

    def check(self, rows: str | None) -> None:
        """Refuse files that can't be written; `rows` is the input file, None for none.

        Raises:
            UsageError: one is the input.
            OutputError: one is a folder, or its folder isn't there.
        """
        for path in (self.out, self.failed):
            if path is not None:
                check_out(path, rows)

    async def begin(self, ledger: Ledger, job: Job, rows: str | None) -> Manner:
        """Note with the job where its output goes, before anything is sent; returns how it will be written.

        Raises:
            UsageError: two rows would have one file.
        """
        manner = manner_of(job, rows)
        await job.remember_output(self.out, plain_output(self.format, manner))
        if self.out is not None and is_pattern(str(self.out)):
            check_pieces(ledger, job.record, str(self.out))
        return manner

    def write(self, ledger: Ledger, job: Job, manner: Manner) -> Iterator[str]:
        """Write the files, one after the other; yields what to say of each.

        Raises:
            OutputError: one can't be written; what stood there before still stands.
        """
        record = job.record
        if self.out is not None:
            total = sum(ledger.row_counts(record.id).values())
            count = write_output(
                ledger, record, self.out, format_=self.format, like=manner.like, mark=manner.mark
            )
            told = counted(total, "row")
            yield f"{self.out} has {told if count == total else f'{count:,} of {told}'}"
        if self.failed is not None:
            count = write_failed(ledger, record, self.failed, manner)
            yield f"{self.failed} has {counted(count, 'failed row')}"


def manner_of(job: Job, rows: str | None) -> Manner:
    """How a job's input is written; the file is looked at again where nobody noted it."""
    reading = job.reading
    if not isinstance(reading, FileReading):
        if rows is None or "output" in job.record.options:
            return pinned_output(job.record)[1]
        reading = FileSource(rows, None).read()
        for _ in islice(reading, _LOOKED_AT):
            pass
    return Manner(reading.dialect, reading.excel)


def check_out(out: Path, rows: str | None) -> None:
    """Refuse an output file that can't be written, before anything is paid for it.

    Raises:
        UsageError: it is the input, or would be no workbook though its name says so.
        OutputError: it is a folder, or its folder isn't there.
    """
    if out.suffix.lower() in _WORKBOOKS:
        raise UsageError(
            f"{out}: workbooks aren't written",
            remedy=f"-o {out.with_suffix('.csv')}: spreadsheets open CSV.",
        )
    if is_pattern(str(out)):
        return  # its folders are made
    if rows is not None and rows != "-" and out.exists() and Path(rows).exists() and out.samefile(rows):
        raise UsageError(f"{out} is the input", remedy="Name another file with -o.")
    if out.is_dir():
        raise OutputError("is a folder", file=out, remedy="Name a file in it.")
    if not out.absolute().parent.is_dir():
        raise OutputError("its folder isn't there", file=out, remedy=f"mkdir -p {out.parent}")
