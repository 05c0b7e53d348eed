"""JSON rows: one object a line, or one array of objects."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, cast

from promptkit.errors import InputError
from promptkit.types import Json

from .lines import Lines, Record, row_too_long

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_REMEDY: Final = "a row is an object: {column: value, ...}"


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
        raise InputError("expected an object", file=name, line=line, remedy=_REMEDY)
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
        return InputError("JSON nested too deep", file=name, line=line, remedy=_REMEDY)
    if isinstance(error, json.JSONDecodeError):
        # Its own line counts from the start of the buffer; ours from the start of the file.
        line += error.doc.count("\n", start, error.pos) if error.pos < len(error.doc) else 0
        return InputError(
            f"not valid JSON: {error.msg} (column {error.colno})", file=name, line=line, remedy=_REMEDY
        )
    return InputError(f"not valid JSON: {error}", file=name, line=line, remedy=_REMEDY)
