"""What a rows file is, told from its name and its first bytes."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from promptkit.errors import InputError


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a rows file is written.

    `encoding` is None where the first bytes are ASCII or UTF-8 without a mark: it is UTF-8 then,
    unless the first byte above ASCII turns out to be none (Excel's cp1252). `newline` is what
    ends a line; `preamble` counts the lines before the header (Excel's `sep=;`).
    """

    format: Format
    encoding: str | None = None
    delimiter: str = ","
    newline: str = "\n"
    preamble: int = 0


_SUFFIXES: Final = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
}
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_NOT_TEXT: Final = (
    (b"PK\x03\x04", "an Excel workbook or a zip file", "save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "compressed", "decompress it first"),
)
_TAB: Final = "\t"
_DELIMITERS: Final = ",;\t|"
_SEP: Final = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
_SAMPLED_RECORDS: Final = 50


_ENCODINGS: Final = {"cp1252": "Windows-1252", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def manner(dialect: Dialect, encoding: str) -> str:
    """How a file is written, where it isn't UTF-8 or has another delimiter than its format promises.

    Args:
        dialect: as it was sniffed.
        encoding: as it was read.

    Returns:
        For example ``Windows-1252, `;` between cells``; empty where there is nothing to say.
    """
    told = [_ENCODINGS[encoding]] if encoding in _ENCODINGS else []
    if dialect.format is Format.CSV and dialect.delimiter != ",":
        told.append(f"{'a tab' if dialect.delimiter == _TAB else f'`{dialect.delimiter}`'} between cells")
    return ", ".join(told)


def format_of(name: str) -> Format | None:
    """The format that a file's extension tells; None for none of ours."""
    dot = name.rfind(".")
    return _SUFFIXES.get(name[dot:].lower()) if dot >= 0 else None


def sniff(head: bytes, *, name: str, format: Format | None = None) -> Dialect:  # noqa: A002 - the option's name
    """Tell a file's dialect.

    Args:
        head: its first bytes, some tens of kilobytes.
        name: its name, for its extension and for messages (`-` for standard input).
        format: what the user says it is; else its extension, else its first character tells.

    Raises:
        InputError: it is empty, or no text.
    """
    for magic, what, remedy in _NOT_TEXT:
        if head.startswith(magic):
            raise InputError(f"this is {what}", file=name, remedy=remedy)
    encoding, text = _decode(head)
    if not text.strip():
        raise InputError(
            "the file is empty", file=name, remedy="give it a header and a row for each text wanted"
        )
    start = text.lstrip()[0]
    newline = "\r" if "\r" in text and "\n" not in text else "\n"
    found = format or format_of(name) or {"{": Format.JSONL, "[": Format.JSON}.get(start, Format.CSV)
    if found is Format.JSON and start == "{":
        found = Format.JSONL
    if found not in {Format.CSV, Format.TSV}:
        return Dialect(found, encoding, newline=newline)
    said = _SEP.match(text)
    if said is not None:
        return Dialect(found, encoding, said[1], newline, preamble=1)
    delimiter = (
        "\t" if found is Format.TSV else _delimiter(text.replace("\r", "\n") if newline == "\r" else text)
    )
    return Dialect(found, encoding, delimiter, newline)


def _decode(head: bytes) -> tuple[str | None, str]:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, head[len(mark) :].decode(encoding, "ignore")
    # Latin-1 reads all bytes, and delimiters are ASCII: good enough to tell the dialect.
    return None, head.decode("latin-1")


def _delimiter(text: str) -> str:
    scores = {mark: _score(text, mark) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: scores[mark])


def _score(text: str, delimiter: str) -> tuple[float, int]:
    """How well a delimiter fits: the share of records as wide as the header, then the width."""
    widths: list[int] = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            widths.append(len(record))
            if len(widths) > _SAMPLED_RECORDS:
                break
    except csv.Error:
        pass
    # The last record may be cut by the end of the sample.
    whole = [width for width in (widths[:-1] or widths) if width]
    if not whole or whole[0] == 1:
        return 0.0, 0
    return sum(width == whole[0] for width in whole) / len(whole), whole[0]
