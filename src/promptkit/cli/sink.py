"""Rows of a job on stdout, as they finish."""

from __future__ import annotations

import sys
from typing import BinaryIO

from promptkit.batch.columns import output_format, writer
from promptkit.batch.job import Job
from promptkit.batch.output import layout_of
from promptkit.batch.tables import Dialect, Format
from promptkit.errors import OutputError
from promptkit.types import RowResult


class Stdout:
    """Results on stdout as they finish. A reader that has gone stops the job; so does a full disk."""

    def __init__(self, job: Job, like: Dialect, said: Format | None) -> None:
        self._job = job
        self._layout = layout_of(job.record)
        format_ = output_format(None, like, said)
        self._writer = writer(format_, self._layout.header, delimiter=like.delimiter)
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
