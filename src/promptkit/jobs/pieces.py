"""The output of a job as one file a row, each of which appears whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from promptkit.batch import Ordinals
from promptkit.batch.naming import check_pattern, name_digest, piece_name
from promptkit.errors import OutputError, UsageError
from promptkit.ledger import JobRecord, Ledger
from promptkit.types import RowResult

from .output import stored_results
from .whole import replacing

_PAGE: Final = 500


def check_pieces(ledger: Ledger, job: JobRecord, pattern: str) -> None:
    """Make sure, before anything is paid, that each row has a file of its own.

    Raises:
        UsageError: the pattern names no column, or two rows would have one file.
    """
    check_pattern(pattern, job.columns)
    seen = Ordinals()
    after = -1
    while page := ledger.rows_in_order(job.id, after, _PAGE):
        after = page[-1].row.position
        for out in page:
            path = piece_name(pattern, out.row.passthrough or {}, number_of(out.row.position))
            if seen.next(name_digest(path)):
                raise UsageError(
                    f"row {number_of(out.row.position)} (line {out.row.line}) would be written to {path}, "
                    "as a row before it",
                    remedy="Add a column that tells them apart to -o, or {number}.",
                )


def number_of(position: int) -> int:
    """A row's number, from 1."""
    return position + 1


def write_pieces(ledger: Ledger, job: JobRecord, pattern: str) -> int:
    """Write a file for each row that has a text; returns how many there are.

    A file that has the text already is left alone, and so is that of a text which the ledger no longer has.

    Raises:
        OutputError: one can't be written; those before it stand.
    """
    count = 0
    for result in stored_results(ledger, job):
        if result.text is not None:
            _write(Path(piece_name(pattern, result.cells, result.number)), _content(result))
            count += 1
    return count


def _content(result: RowResult) -> bytes:
    text = result.text or ""
    if result.parsed is not None:
        text = json.dumps(result.parsed, ensure_ascii=False, indent=2)
    return (text if text.endswith("\n") else f"{text}\n").encode("utf-8", "replace")


def _write(path: Path, content: bytes) -> None:
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)
    except OSError as cause:
        raise OutputError(
            f"can't be written: {cause.strerror}",
            file=path,
            remedy="The results are in the ledger: make room, then run the same command again; nothing is paid twice.",
        ) from cause
