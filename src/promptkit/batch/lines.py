"""Physical lines and records: what all row formats are read through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from promptkit.errors import InputError
from promptkit.types import Json


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
