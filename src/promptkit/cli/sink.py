"""Where the rows of a job go: a file when all is done, or stdout as they finish."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from promptkit.batch import Format, output_format, writer
from promptkit.batch.naming import is_pattern
from promptkit.errors import OutputError, UsageError, counted
from promptkit.jobs import Job, JobReport, layout_of, write_output
from promptkit.jobs.remembered import Manner, pinned_output
from promptkit.jobs.source import FileReading, FileSource
from promptkit.ledger import Ledger
from promptkit.types import RowResult

_LOOKED_AT: Final = 1000
"""Rows after which an encoding that is still open is taken for UTF-8."""


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
        UsageError: it is the input.
        OutputError: it is a folder, or its folder isn't there.
    """
    if is_pattern(str(out)):
        return  # its folders are made
    if rows is not None and rows != "-" and out.exists() and Path(rows).exists() and out.samefile(rows):
        raise UsageError(f"{out} is the input", remedy="Name another file with -o.")
    if out.is_dir():
        raise OutputError("is a folder", file=out, remedy="Name a file in it.")
    if not out.absolute().parent.is_dir():
        raise OutputError("its folder isn't there", file=out, remedy=f"mkdir -p {out.parent}")


class Stdout:
    """Results on stdout as they finish. A reader that has gone stops the job; so does a full disk."""

    def __init__(self, job: Job, manner: Manner, said: Format | None) -> None:
        self._job = job
        self._layout = layout_of(job.record)
        format_ = output_format(None, manner.like, said)
        self._writer = writer(format_, self._layout.header, delimiter=manner.like.delimiter)
        self._file: BinaryIO = sys.stdout.buffer
        self._trouble: OSError | None = None

    @property
    def whole(self) -> bool:
        """Whether all that was to be written was taken."""
        return self._trouble is None

    def start(self) -> None:
        """Write what stands before the first row."""
        self._write(self._writer.start)

    def row(self, result: RowResult) -> None:
        """Write a row."""
        self._write(self._writer.row(self._layout.record(result)))

    def end(self) -> None:
        """Write what stands after the last row.

        Raises:
            OutputError: stdout couldn't be written, now or before.
        """
        self._write(self._writer.end)
        if self._trouble is not None and not isinstance(self._trouble, BrokenPipeError):
            raise OutputError(
                f"stdout can't be written: {self._trouble.strerror}",
                remedy="The results are in the ledger: run the same command again; nothing is paid twice.",
            )

    def _write(self, data: bytes) -> None:
        if self._trouble is not None or not data:
            return
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as cause:
            # What is under way is paid for: it is awaited and recorded, and nothing new is sent.
            self._trouble = cause
            self._job.halt()


class OutFile:
    """The output file, written from the ledger when the run is over."""

    def __init__(self, job: Job, manner: Manner, said: Format | None, out: Path) -> None:
        self._job = job
        self._manner = manner
        self._said = said
        self._out = out

    def write(self, ledger: Ledger, report: JobReport) -> str:
        """Write it; returns what to say of it.

        Raises:
            OutputError: it can't be written; what stood there before still stands.
        """
        count = write_output(
            ledger,
            self._job.record,
            self._out,
            format_=self._said,
            like=self._manner.like,
            mark=self._manner.mark,
        )
        told = counted(report.total, "row")
        return f"{self._out} has {told if count == report.total else f'{count:,} of {told}'}"
