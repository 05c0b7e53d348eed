"""Rows of CSV, TSV, JSONL and JSON, one at a time: memory doesn't grow with their number."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any, NoReturn, cast

from promptkit.errors import InputError, counted
from promptkit.types import Json

MAX_ROW_CHARS = 8 * 1024 * 1024
"""The longest row; a longer one has an open quote, or the file is not a table."""


class Rows:
    """The rows of one file, to be iterated once.

    Attributes:
        name: the file's name, for messages.
        dialect: how it is written.
        columns: the header's names in order; None for JSONL and JSON, where each row names its own.
    """

    __slots__ = ("_decoder", "_records", "columns", "dialect", "name")

    def __init__(self, chunks: Iterable[bytes], *, name: str, format: Format | None, limit: int) -> None:  # noqa: A002
        data = blocks(chunks)
        head = next(data, b"")
        self.name = name
        self.dialect = sniff(head, name=name, format=format)
        self.columns: tuple[str, ...] | None = None
        self._decoder = Decoder(self.dialect.encoding, name, self.dialect.newline)
        text = self._decoder.decode(chain((head,), data))
        self._records = self._read(text, limit)

    @property
    def encoding(self) -> str:
        """The encoding, from the text read so far."""
        return self._decoder.encoding or "utf-8"

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def _read(self, text: Iterator[str], limit: int) -> Iterator[Record]:
        if self.dialect.format is Format.JSON:
            return json_array(text, self.name, limit)
        lines = Lines(text, self.dialect.newline, self.name, limit)
        if self.dialect.format is Format.JSONL:
            return jsonl(lines, self.name)
        table = Table(lines, self.dialect, self.name, limit)
        self.columns = tuple(name for name in table.header if name)
        return table.records()


def read_rows(
    chunks: Iterable[bytes],
    *,
    name: str,
    format: Format | None = None,  # noqa: A002 - the option's name
    max_row_chars: int = MAX_ROW_CHARS,
) -> Rows:
    """Read the rows of a file.

    Args:
        chunks: its bytes in order, in parts of any size (for example an open binary file).
        name: its name, for its extension and for messages (`-` for standard input).
        format: the user's; otherwise the name or the first character decides.
        max_row_chars: a longer row is refused.

    Raises:
        InputError: with file and line, here or during the iteration: an empty file, no text, bytes that
            can't be decoded, a repeated column name, an unclosed quote, JSON that is not an object, a
            row beyond the limit.
    """
    return Rows(chunks, name=name, format=format, limit=max_row_chars)


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file of rows is written.

    `encoding` is None if the first bytes are ASCII or UTF-8 without a byte order mark: it is UTF-8
    then, unless the first byte above ASCII is not (Excel's cp1252). `newline` ends a line;
    `preamble` is the number of lines before the header (Excel's `sep=;`). `excel`: CSV output needs
    the byte order mark that Excel needs.
    """

    format: Format
    encoding: str | None = None
    delimiter: str = ","
    newline: str = "\n"
    preamble: int = 0
    excel: bool = False


_SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
}

_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

_NOT_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or a zip file", "save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "compressed", "decompress it first"),
)

_TAB = "\t"
_DELIMITERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
_SAMPLED_RECORDS = 50
_ENCODINGS = {"cp1252": "Windows-1252", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def dialect_notice(dialect: Dialect, encoding: str) -> str:
    """Return how a file is written, if it isn't UTF-8 or has another delimiter than its format promises.

    Args:
        dialect: as it was sniffed.
        encoding: as it was read.

    Returns:
        For example ``Windows-1252, `;` between cells``; empty for a usual file.
    """
    notices = [_ENCODINGS[encoding]] if encoding in _ENCODINGS else []
    if dialect.format is Format.CSV and dialect.delimiter != ",":
        notices.append(f"{'a tab' if dialect.delimiter == _TAB else f'`{dialect.delimiter}`'} between cells")
    return ", ".join(notices)


def format_of(name: str) -> Format | None:
    """Return the format of a file extension; None if it is unknown."""
    dot = name.rfind(".")
    return _SUFFIXES.get(name[dot:].lower()) if dot >= 0 else None


def sniff(head: bytes, *, name: str, format: Format | None = None) -> Dialect:  # noqa: A002 - the option's name
    """Detect the dialect of a file.

    Args:
        head: its first bytes, some tens of kilobytes.
        name: its name, for its extension and for messages (`-` for standard input).
        format: the user's; otherwise the extension or the first character decides.

    Raises:
        InputError: it is empty, or not text.
    """
    for magic, kind, remedy in _NOT_TEXT:
        if head.startswith(magic):
            raise InputError(f"this is {kind}", file=name, remedy=remedy)
    encoding, text = _decode(head)
    if not text.strip():
        raise InputError(
            "the file is empty", file=name, remedy="give it a header and a row for each text wanted"
        )
    start = text.lstrip()[0]
    newline = "\r" if "\r" in text and "\n" not in text else "\n"
    detected = format or format_of(name) or {"{": Format.JSONL, "[": Format.JSON}.get(start, Format.CSV)
    if detected is Format.JSON and start == "{":
        detected = Format.JSONL
    if detected not in {Format.CSV, Format.TSV}:
        return Dialect(detected, encoding, newline=newline)
    sep = _SEP.match(text)
    if sep is not None:
        return Dialect(detected, encoding, sep[1], newline, preamble=1)
    delimiter = (
        "\t" if detected is Format.TSV else _delimiter(text.replace("\r", "\n") if newline == "\r" else text)
    )
    return Dialect(detected, encoding, delimiter, newline)


def _decode(head: bytes) -> tuple[str | None, str]:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, head[len(mark) :].decode(encoding, "ignore")
    # Latin-1 reads all bytes, and delimiters are ASCII: this is enough to detect the dialect.
    return None, head.decode("latin-1")


def _delimiter(text: str) -> str:
    scores = {mark: _score(text, mark) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: scores[mark])


def _score(text: str, delimiter: str) -> tuple[float, int]:
    """Rate a delimiter: the share of records as wide as the header, then the width."""
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


_BLOCK = 1 << 16
_REMEDY = "save the whole file as UTF-8"


def blocks(chunks: Iterable[bytes], size: int = _BLOCK) -> Iterator[bytes]:
    """Join chunks (such as lines of a file) into blocks of at least `size` bytes."""
    gathered: list[bytes] = []
    length = 0
    for chunk in chunks:
        gathered.append(chunk)
        length += len(chunk)
        if length >= size:
            yield b"".join(gathered)
            gathered, length = [], 0
    if gathered:
        yield b"".join(gathered)


class Decoder:
    """Decodes a file in order.

    Without an `encoding` it reads UTF-8, and changes to cp1252 if the first byte above ASCII is not
    UTF-8: the text before it is the same in both.

    Args:
        encoding: `utf-8`, `utf-16-le`, `utf-16-be`, or None without a byte order mark.
        name: the file's name, for messages.
        newline: ends a line, to count lines.
    """

    __slots__ = ("_ascii", "_line", "_name", "_newline", "_tail", "_utf16", "encoding")

    def __init__(self, encoding: str | None, name: str, newline: str = "\n") -> None:
        self.encoding = encoding
        self._name = name
        self._newline = newline
        self._line = 1
        self._tail = b""
        self._ascii = encoding is None
        utf16 = encoding is not None and encoding.startswith("utf-16")
        self._utf16 = codecs.getincrementaldecoder(encoding)() if encoding is not None and utf16 else None

    def decode(self, data: Iterable[bytes]) -> Iterator[str]:
        """Yield the text of all blocks, without a byte order mark.

        Raises:
            InputError: a byte is not valid in the file's encoding, or is NUL; the message names the line.
        """
        first = True
        for block in data:
            text = self._feed(block, final=False)
            yield text.removeprefix("\ufeff") if first else text
            first = first and not text
        yield self._feed(b"", final=True)

    def _feed(self, block: bytes, *, final: bool) -> str:
        text = self._utf16_text(block, final=final) if self._utf16 else self._text(block, final=final)
        if "\0" in text:
            raise self._error("a NUL byte", text[: text.index("\0")])
        self._line += text.count(self._newline)
        return text

    def _utf16_text(self, block: bytes, *, final: bool) -> str:
        assert self._utf16 is not None  # noqa: S101 - for the type checker; _feed has checked it
        try:
            return self._utf16.decode(block, final)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding)
            raise self._error("a byte pair that is not UTF-16", before) from error

    def _text(self, block: bytes, *, final: bool) -> str:
        data = self._tail + block
        self._tail = b""
        if self.encoding == "cp1252":
            return self._cp1252(data)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return self._not_utf8(data, error, final=final)
        if self._ascii and not text.isascii():
            self._ascii, self.encoding = False, "utf-8"
        return text

    def _not_utf8(self, data: bytes, error: UnicodeDecodeError, *, final: bool) -> str:
        before = data[: error.start]
        if error.end == len(data) and "unexpected end" in error.reason and not final:
            self._tail = data[error.start :]  # a character that the end of the block has cut
            text = before.decode("utf-8")
            self._ascii = self._ascii and text.isascii()
            return text
        if self._ascii and before.isascii():
            self._ascii, self.encoding = False, "cp1252"
            return self._cp1252(data)
        message = f"byte 0x{data[error.start]:02X} is not UTF-8, but the text before it is"
        raise self._error(message, before.decode("utf-8")) from error

    def _cp1252(self, data: bytes) -> str:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError as error:
            message = f"byte 0x{data[error.start]:02X} is neither UTF-8 nor cp1252"
            raise self._error(message, data[: error.start].decode("cp1252")) from error

    def _error(self, message: str, before: str) -> InputError:
        line = self._line + before.count(self._newline)
        return InputError(message, file=self._name, line=line, remedy=_REMEDY)


@dataclass(frozen=True, slots=True)
class Record:
    """One row as read: `number` counts rows from 1, `line` is the physical line on which it starts.

    Cells of CSV are text, cells of JSON are JSON values. An empty cell is "". `broken` describes an
    error in the row itself, if the other rows can be read.
    """

    number: int
    line: int
    cells: Mapping[str, Json]
    broken: str | None = None


class Lines:
    """The physical lines of a text, each ending in a newline; `number` is the number of the last one.

    Args:
        text: the file's text, in parts of any size.
        newline: ends a line in it.
        name: the file's name, for messages.
        limit: the greatest number of characters in a record, which may span lines.
    """

    __slots__ = ("_limit", "_name", "_newline", "_rest", "_text", "number", "start")

    def __init__(self, text: Iterator[str], newline: str, name: str, limit: int) -> None:
        self._text = text
        self._newline = newline
        self._name = name
        self._limit = limit
        self.number = 0
        self.start = 1
        self._rest = limit

    def begin(self) -> int:
        """Start a record and its length; return the line on which it begins."""
        self.start = self.number + 1
        self._rest = self._limit
        return self.start

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for block in self._text:
            *lines, rest = (rest + block).split(self._newline)
            for line in lines:
                yield self._count(line)
            if len(rest) > self._rest:
                self._too_long()
        if rest:
            yield self._count(rest)

    def _count(self, line: str) -> str:
        self.number += 1
        self._rest -= len(line) + 1
        if self._rest < 0:
            self._too_long()
        return line.removesuffix("\r") + "\n"

    def _too_long(self) -> NoReturn:
        raise row_too_long(self._name, self.start, self._limit)


def row_too_long(name: str, line: int, limit: int) -> InputError:
    """Return the error for a record beyond the limit."""
    return InputError(
        f"the row that starts here is longer than {limit:,} characters",
        file=name,
        line=line,
        remedy="close its quote, if one is open; a text that long fits no model",
    )


class Table:
    """A table in CSV or TSV: a header, then records."""

    __slots__ = ("_line", "_lines", "_name", "_reader", "header")

    def __init__(self, lines: Lines, dialect: Dialect, name: str, limit: int) -> None:
        # The limit of the csv module counts a cell, for the whole process. It must not be below ours, for a row.
        if csv.field_size_limit() < limit:
            csv.field_size_limit(limit)
        self._name = name
        self._lines = lines
        numbered = iter(lines)
        for _ in range(dialect.preamble):
            next(numbered)
        self._reader = csv.reader(numbered, delimiter=dialect.delimiter, strict=True)
        self._line = 0
        self.header = self._read_header()

    def _read_header(self) -> list[str]:
        header = [cell.strip() for cell in next(self._cells(), list[str]())]
        if not header:
            raise InputError(
                "the file has no header", file=self._name, remedy="name the columns in its first line"
            )
        repeated = [name for name, times in Counter(filter(None, header)).items() if times > 1]
        if repeated:
            names = ", ".join(map(repr, repeated))
            raise InputError(
                f"the column {names} appears twice",
                file=self._name,
                line=self._line,
                remedy="rename one of them",
            )
        return header

    def _cells(self) -> Iterator[list[str]]:
        """Yield the cells of each record that is not blank (Excel writes `;;;` for an emptied row)."""
        while True:
            self._line = self._lines.begin()
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise self._malformed(error) from error
            if cells is None:
                return
            if any(cells):
                yield cells

    def records(self) -> Iterator[Record]:
        """Yield the records below the header.

        Raises:
            InputError: a record is malformed, or has a value in a column without a name. A record with more
                cells than the header is only `broken`.
        """
        header, width = self.header, len(self.header)
        unnamed = [index for index, name in enumerate(header) if not name]
        for number, cells in enumerate(self._cells(), 1):
            broken = self._fit(cells, width) if len(cells) != width else None
            row = dict(zip(header, cells, strict=True))
            if unnamed:
                self._drop_unnamed(row, cells, unnamed)
            yield Record(number, self._line, cast("dict[str, Json]", row), broken)

    @staticmethod
    def _fit(cells: list[str], width: int) -> str | None:
        """Make a row as wide as the header; return an error if it has too many cells."""
        broken = None
        if any(cells[width:]):
            broken = (
                f"the row has {counted(len(cells), 'cell')}, the header {width}: "
                "put quotes around a cell that contains a delimiter"
            )
        # Missing cells are empty: Excel sometimes omits trailing delimiters.
        cells[width:] = [""] * (width - len(cells))
        return broken

    def _drop_unnamed(self, row: dict[str, str], cells: list[str], unnamed: list[int]) -> None:
        filled = [index for index in unnamed if cells[index]]
        if filled:
            message = f"column {filled[0] + 1} has no name, but this row has a value in it"
            raise InputError(message, file=self._name, line=self._line, remedy="name it in the header")
        del row[""]

    def _malformed(self, error: csv.Error) -> InputError:
        if "unexpected end of data" in str(error):
            message, remedy = (
                "a quote that opens in this row is never closed",
                'close it, or double it ("") inside a cell',
            )
        else:
            message, remedy = (
                f"not well-formed: {error}",
                'a quote inside a quoted cell is written twice ("")',
            )
        return InputError(message, file=self._name, line=self._line, remedy=remedy)


_SPACE = re.compile(r"[ \t\r\n]*")
_JSON_ROWS_REMEDY = "a row is an object: {column: value, ...}"


def jsonl(lines: Lines, name: str) -> Iterator[Record]:
    """Yield the object on each line; skip blank lines.

    Raises:
        InputError: a line is not a JSON object.
    """
    number = 0
    for line in lines:
        start = lines.number
        lines.begin()
        if not line.isspace():
            number += 1
            try:
                value = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                raise _bad_json(name, start, 0, error) from error
            yield Record(number, start, _object(value, line, name, start))


def json_array(text: Iterator[str], name: str, limit: int) -> Iterator[Record]:
    """Yield the objects of one array, each decoded when it is needed.

    Raises:
        InputError: it is not an array of objects, or not valid.
    """
    array = _Array(text, name, limit)
    array.expect("[", "expected an array of objects")
    number = 0
    while array.peek() != "]" or number:
        number += 1
        line = array.line
        yield Record(number, line, array.take_object())
        if array.peek() == "]":
            break
        array.expect(",", "expected a comma or the end of the array")
    array.expect("]", "expected the end of the array")
    if array.peek():
        raise array.error("text after the end of the array")


class _Array:
    """A text that is read from left to right; the part before `_at` is dropped when more is read."""

    __slots__ = ("_at", "_buffer", "_limit", "_name", "_text", "line")

    def __init__(self, text: Iterator[str], name: str, limit: int) -> None:
        self._text = text
        self._name = name
        self._limit = limit
        self._buffer = ""
        self._at = 0
        self.line = 1

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            end = self._at if space is None else space.end()
            self.line += self._buffer.count("\n", self._at, end)
            self._at = end
            if end < len(self._buffer):
                return self._buffer[end]
            if not self._more(1):
                return ""

    def expect(self, char: str, message: str) -> None:
        if self.peek() != char:
            raise self.error(message if self.peek() else "the file ends inside its array")
        self._at += 1

    def take_object(self) -> Mapping[str, Json]:
        if self.peek() != "{":
            raise self.error("expected an object" if self.peek() else "the file ends inside its array")
        value, end = self._decode()
        if end - self._at > self._limit:
            raise row_too_long(self._name, self.line, self._limit)
        source = self._buffer[self._at : end]
        row = _object(value, source, self._name, self.line)
        self.line += source.count("\n")
        self._at = end
        return row

    def _decode(self) -> tuple[Any, int]:
        while True:
            at, length = self._at, len(self._buffer) - self._at
            try:
                return _DECODER.raw_decode(self._buffer, at)
            except (ValueError, RecursionError) as error:
                if length > self._limit:
                    raise row_too_long(self._name, self.line, self._limit) from error
                # The end of the block may have cut the object: read as much once more, then retry.
                if not self._more(length):
                    raise _bad_json(self._name, self.line, at, error) from error

    def error(self, message: str) -> InputError:
        return InputError(message, file=self._name, line=self.line, remedy=f"[ {{...}}, {{...}} ]; {_REMEDY}")

    def _more(self, wanted: int) -> bool:
        gathered = [self._buffer[self._at :]]
        while wanted > 0 and (block := next(self._text, None)) is not None:
            gathered.append(block)
            wanted -= len(block)
        self._buffer = "".join(gathered)
        self._at = 0
        return any(gathered[1:])


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        message = f"{text} is too large for a number"
        raise ValueError(message)
    return number


def _no_constant(text: str) -> NoReturn:
    message = f"{text} is not JSON"
    raise ValueError(message)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


def _object(value: Any, source: str, name: str, line: int) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise InputError("expected an object", file=name, line=line, remedy=_JSON_ROWS_REMEDY)
    row = cast("dict[str, Json]", value)
    if "\\ud" in source or "\\uD" in source:
        _refuse_lone_surrogates(row, name, line)
    return row


def _refuse_lone_surrogates(row: dict[str, Json], name: str, line: int) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        message = "half a character (a lone surrogate)"
        raise InputError(message, file=name, line=line, remedy="write the text as UTF-8") from error


def _bad_json(name: str, line: int, start: int, error: Exception) -> InputError:
    if isinstance(error, RecursionError):
        return InputError("the JSON is nested too deep", file=name, line=line, remedy=_JSON_ROWS_REMEDY)
    if isinstance(error, json.JSONDecodeError):
        # The line of the error counts from the start of the buffer, ours from the start of the file.
        line += error.doc.count("\n", start, error.pos) if error.pos < len(error.doc) else 0
        return InputError(
            f"not valid JSON: {error.msg} (column {error.colno})",
            file=name,
            line=line,
            remedy=_JSON_ROWS_REMEDY,
        )
    return InputError(f"not valid JSON: {error}", file=name, line=line, remedy=_JSON_ROWS_REMEDY)


# The bytes of UTF-8 read as cp1252, for the first bytes of Western text and emoji.
_CONTINUATION = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
)

_RUN = re.compile(f"(?:[ÂÃÅâð][{_CONTINUATION}]+)+")


def repaired(text: str) -> str | None:
    """Return the text as it was meant, if a part of it was encoded twice; else None."""
    if text.isascii():
        return None
    fixed = _RUN.sub(_decode_run, text)
    return None if fixed == text else fixed


def garbled_columns(record: Record) -> tuple[tuple[str, str], ...]:
    """Return the columns of a row whose text looks encoded twice, each with the probable text."""
    garbled: list[tuple[str, str]] = []
    for column, cell in record.cells.items():
        meant = repaired(cell) if isinstance(cell, str) else None
        if meant is not None:
            garbled.append((column, meant))
    return tuple(garbled)


def _decode_run(run: re.Match[str]) -> str:
    try:
        return b"".join(map(_byte, run[0])).decode()
    except ValueError:
        return run[0]


def _byte(char: str) -> bytes:
    # cp1252 leaves five bytes undefined; readers keep them unchanged.
    return bytes([ord(char)]) if ord(char) < 0x100 else char.encode("cp1252")  # noqa: PLR2004 - one byte
