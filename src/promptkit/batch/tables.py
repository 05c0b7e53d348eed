"""Rows out of CSV, TSV, JSONL and JSON, one at a time: memory stays flat however many there are."""

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
from typing import Any, Final, NoReturn, cast

from promptkit.errors import InputError, counted
from promptkit.types import Json

MAX_ROW_CHARS: Final = 8 * 1024 * 1024
"""A row may hold this much text; past it a quote was left open, or the file is no table."""


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
        """The encoding, as far as the text read so far tells."""
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
        chunks: its bytes in order, in pieces of any size (an open binary file will do).
        name: its name, for its extension and for messages (`-` for standard input).
        format: what the user says it is; else the name, else the first character tells.
        max_row_chars: a longer row is refused.

    Raises:
        InputError: with file and line, here or while iterating: empty, no text, bytes that can't be
            decoded, a column name given twice, an unclosed
            quote, JSON that is no object, a row past the limit.
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


_BLOCK: Final = 1 << 16


_REMEDY: Final = "save the whole file as UTF-8"


def blocks(chunks: Iterable[bytes], size: int = _BLOCK) -> Iterator[bytes]:
    """Gather chunks (lines of a file, say) into blocks of at least `size` bytes."""
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

    With no `encoding` it reads UTF-8, and turns to cp1252 when the first byte above ASCII proves
    not to be UTF-8: all text before it reads the same in both.

    Args:
        encoding: `utf-8`, `utf-16-le`, `utf-16-be`, or None where no mark tells.
        name: the file's name, for messages.
        newline: what ends a line here, for counting them.
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
        """The text of all blocks, without a byte order mark.

        Raises:
            InputError: a byte is no text in the file's encoding, or is NUL; the line is named.
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
        assert self._utf16 is not None  # noqa: S101 - for the type checker; _feed asked
        try:
            return self._utf16.decode(block, final)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding)
            raise self._error("a byte pair that is no UTF-16", before) from error

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
            self._tail = data[error.start :]  # a character cut by the end of the block
            text = before.decode("utf-8")
            self._ascii = self._ascii and text.isascii()
            return text
        if self._ascii and before.isascii():
            self._ascii, self.encoding = False, "cp1252"
            return self._cp1252(data)
        what = f"byte 0x{data[error.start]:02X} is not UTF-8, though the text before it is"
        raise self._error(what, before.decode("utf-8")) from error

    def _cp1252(self, data: bytes) -> str:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError as error:
            what = f"byte 0x{data[error.start]:02X} is neither UTF-8 nor cp1252"
            raise self._error(what, data[: error.start].decode("cp1252")) from error

    def _error(self, what: str, before: str) -> InputError:
        line = self._line + before.count(self._newline)
        return InputError(what, file=self._name, line=line, remedy=_REMEDY)


@dataclass(frozen=True, slots=True)
class Record:
    """One row as read: `number` counts rows from 1, `line` is the physical line it starts on.

    Cells of CSV are text, of JSON what the JSON says. An empty cell is there, as "". `broken` is what
    is wrong with the row itself, where the table around it can be read.
    """

    number: int
    line: int
    cells: Mapping[str, Json]
    broken: str | None = None


class Lines:
    """Physical lines of a text, each ending in a plain newline; `number` is that of the last one.

    Args:
        text: the file's text, in pieces cut anywhere.
        newline: what ends a line in it.
        name: the file's name, for messages.
        limit: how many characters a record may have, which may span lines.
    """

    __slots__ = ("_limit", "_name", "_newline", "_text", "number", "room", "start")

    def __init__(self, text: Iterator[str], newline: str, name: str, limit: int) -> None:
        self._text = text
        self._newline = newline
        self._name = name
        self._limit = limit
        self.number = 0
        self.start = 1
        self.room = limit

    def begin(self) -> int:
        """Start a record: the line it begins on; its length is counted from here."""
        self.start = self.number + 1
        self.room = self._limit
        return self.start

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for block in self._text:
            *lines, rest = (rest + block).split(self._newline)
            for line in lines:
                yield self._count(line)
            if len(rest) > self.room:
                self._too_long()
        if rest:
            yield self._count(rest)

    def _count(self, line: str) -> str:
        self.number += 1
        self.room -= len(line) + 1
        if self.room < 0:
            self._too_long()
        return line.removesuffix("\r") + "\n"

    def _too_long(self) -> NoReturn:
        raise row_too_long(self._name, self.start, self._limit)


def row_too_long(name: str, line: int, limit: int) -> InputError:
    """The error for a record past the limit."""
    return InputError(
        f"the row that starts here is longer than {limit:,} characters",
        file=name,
        line=line,
        remedy="close its quote, if one is open; a text that long fits no model",
    )


class Table:
    """CSV and TSV: a header, then records."""

    __slots__ = ("_line", "_lines", "_name", "_reader", "header")

    def __init__(self, lines: Lines, dialect: Dialect, name: str, limit: int) -> None:
        # csv's own limit is the process's, and counts a cell; ours counts a row: it must not come first.
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
        twice = [name for name, times in Counter(filter(None, header)).items() if times > 1]
        if twice:
            names = ", ".join(map(repr, twice))
            raise InputError(
                f"column {names} is there twice",
                file=self._name,
                line=self._line,
                remedy="rename one of them",
            )
        return header

    def _cells(self) -> Iterator[list[str]]:
        """Cells of each record that is not blank (Excel writes `;;;` for an emptied row)."""
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
        """The records below the header.

        Raises:
            InputError: a record has a cell under no name, or is malformed. One with cells beyond the
                header's is `broken`, and the others can be read.
        """
        header, width = self.header, len(self.header)
        unnamed = [place for place, name in enumerate(header) if not name]
        for number, cells in enumerate(self._cells(), 1):
            broken = self._fit(cells, width) if len(cells) != width else None
            row = dict(zip(header, cells, strict=True))
            if unnamed:
                self._drop_unnamed(row, cells, unnamed)
            yield Record(number, self._line, cast("dict[str, Json]", row), broken)

    @staticmethod
    def _fit(cells: list[str], width: int) -> str | None:
        """Make a row as wide as the header; returns what is wrong where cells are too many."""
        broken = None
        if any(cells[width:]):
            told = counted(len(cells), "cell")
            broken = (
                f"the row has {told}, the header {width}: put quotes around a cell that holds a delimiter"
            )
        # Missing cells are empty: Excel leaves trailing delimiters out, now and then.
        cells[width:] = [""] * (width - len(cells))
        return broken

    def _drop_unnamed(self, row: dict[str, str], cells: list[str], unnamed: list[int]) -> None:
        filled = [place for place in unnamed if cells[place]]
        if filled:
            what = f"column {filled[0] + 1} has no name, yet this row has a value in it"
            raise InputError(what, file=self._name, line=self._line, remedy="name it in the header")
        del row[""]

    def _malformed(self, error: csv.Error) -> InputError:
        if "unexpected end of data" in str(error):
            what, remedy = (
                "a quote that opens in this row is never closed",
                'close it, or double it ("") inside a cell',
            )
        else:
            what, remedy = f"not well-formed: {error}", 'a quote inside a quoted cell is written twice ("")'
        return InputError(what, file=self._name, line=self._line, remedy=remedy)


_SPACE: Final = re.compile(r"[ \t\r\n]*")


_JSON_ROWS_REMEDY: Final = "a row is an object: {column: value, ...}"


def jsonl(lines: Lines, name: str) -> Iterator[Record]:
    """The object on each line; blank lines are skipped.

    Raises:
        InputError: a line is no JSON object.
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
    """The objects of one array, each decoded when it is its turn.

    Raises:
        InputError: it is no array, or a member no object, or not valid.
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
    """A text read from left to right; what is behind `_at` is dropped when more is read."""

    __slots__ = ("_at", "_buffer", "_limit", "_name", "_text", "line")

    def __init__(self, text: Iterator[str], name: str, limit: int) -> None:
        self._text = text
        self._name = name
        self._limit = limit
        self._buffer = ""
        self._at = 0
        self.line = 1

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            end = self._at if space is None else space.end()
            self.line += self._buffer.count("\n", self._at, end)
            self._at = end
            if end < len(self._buffer):
                return self._buffer[end]
            if not self._more(1):
                return ""

    def expect(self, char: str, what: str) -> None:
        if self.peek() != char:
            raise self.error(what if self.peek() else "the file ends inside its array")
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
            at, waiting = self._at, len(self._buffer) - self._at
            try:
                return _DECODER.raw_decode(self._buffer, at)
            except (ValueError, RecursionError) as error:
                if waiting > self._limit:
                    raise row_too_long(self._name, self.line, self._limit) from error
                # Perhaps the object is cut by the end of the block: read as much again, then retry.
                if not self._more(waiting):
                    raise _bad_json(self._name, self.line, at, error) from error

    def error(self, what: str) -> InputError:
        return InputError(what, file=self._name, line=self.line, remedy=f"[ {{...}}, {{...}} ]; {_REMEDY}")

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
        message = f"{text} is too large a number"
        raise ValueError(message)
    return number


def _no_constant(text: str) -> NoReturn:
    message = f"{text} is no JSON"
    raise ValueError(message)


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


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
        what = "half a character (a lone surrogate)"
        raise InputError(what, file=name, line=line, remedy="write the text as UTF-8") from error


def _bad_json(name: str, line: int, start: int, error: Exception) -> InputError:
    if isinstance(error, RecursionError):
        return InputError("JSON nested too deep", file=name, line=line, remedy=_JSON_ROWS_REMEDY)
    if isinstance(error, json.JSONDecodeError):
        # Its own line counts from the start of the buffer; ours from the start of the file.
        line += error.doc.count("\n", start, error.pos) if error.pos < len(error.doc) else 0
        return InputError(
            f"not valid JSON: {error.msg} (column {error.colno})",
            file=name,
            line=line,
            remedy=_JSON_ROWS_REMEDY,
        )
    return InputError(f"not valid JSON: {error}", file=name, line=line, remedy=_JSON_ROWS_REMEDY)


# What UTF-8's bytes look like when read as cp1252, for the leads seen in Western text and emoji.
_CONTINUATION: Final = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
)


_RUN: Final = re.compile(f"(?:[ÂÃÅâð][{_CONTINUATION}]+)+")


def repaired(text: str) -> str | None:
    """The text as it was meant, where a part of it was encoded twice; else None."""
    if text.isascii():
        return None
    fixed = _RUN.sub(_decode_run, text)
    return None if fixed == text else fixed


def garbled_columns(record: Record) -> tuple[tuple[str, str], ...]:
    """Columns of a row whose text looks encoded twice, each with what was probably meant."""
    found: list[tuple[str, str]] = []
    for column, cell in record.cells.items():
        meant = repaired(cell) if isinstance(cell, str) else None
        if meant is not None:
            found.append((column, meant))
    return tuple(found)


def _decode_run(run: re.Match[str]) -> str:
    try:
        return b"".join(map(_byte, run[0])).decode()
    except ValueError:
        return run[0]


def _byte(char: str) -> bytes:
    # cp1252 leaves five bytes undefined; readers pass them on as they are.
    return bytes([ord(char)]) if ord(char) < 0x100 else char.encode("cp1252")  # noqa: PLR2004 - one byte
