"""What names a row, so that it is paid once however often the job is started.

A row is named by its content: the digest of its variables as supplied, and its ordinal among
the rows of the file with the same content (a row may be wanted twice). With `--key` the column's
value names it, and other content under the same name is a new generation.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping
from typing import Final

from promptkit.errors import InputError
from promptkit.types import Row, Value

from .lines import Record

_SLOTS: Final = 1 << 12
_FULL: Final = 2 / 3


def content_digest(variables: Mapping[str, Value]) -> str:
    """SHA-256 (hex) of the canonical JSON of a row's variables: sorted, no spaces, UTF-8.

    A number that is whole reads the same however it was written: 3 and 3.0.
    """
    plain = {name: _canonical(value) for name, value in variables.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def row_key(content: str, ordinal: int) -> str:
    """The key (hex) of the row that is the `ordinal`th (from 0) with that content."""
    return hashlib.sha256(f"{content}:{ordinal}".encode()).hexdigest()


class Ordinals:
    """Counts how often each digest was seen, in 12 to 24 bytes a distinct one.

    A set of 63-bit prefixes in one flat array; only digests seen twice get an entry of their own.
    Two digests that share a prefix (one chance in 10^7 among a million rows) are counted
    together: harmless to a row key, which the content distinguishes anyway.
    """

    __slots__ = ("_again", "_limit", "_slots", "_used")

    def __init__(self) -> None:
        self._slots = array("Q", (0,)) * _SLOTS
        self._used = 0
        self._limit = int(_SLOTS * _FULL)
        self._again: dict[int, int] = {}

    def next(self, digest: str) -> int:
        """How many of that digest (hex) came before."""
        mark = int(digest[:16], 16) | 1  # 0 is an empty slot
        if self._add(mark):
            return 0
        ordinal = self._again.get(mark, 0) + 1
        self._again[mark] = ordinal
        return ordinal

    def _add(self, mark: int) -> bool:
        if self._used >= self._limit:
            self._grow()
        slots, mask = self._slots, len(self._slots) - 1
        place = (mark >> 1) & mask
        while slots[place]:
            if slots[place] == mark:
                return False
            place = (place + 1) & mask
        slots[place] = mark
        self._used += 1
        return True

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", (0,)) * (2 * len(before))
        self._limit = int(len(self._slots) * _FULL)
        self._used = 0
        while before:  # bit by bit: both whole at once would be the most that a job of a million rows holds
            some = before[-_SLOTS:]
            del before[-_SLOTS:]
            for mark in some:
                if mark:
                    self._add(mark)


class Namer:
    """Names the rows of one file, in order."""

    __slots__ = ("_file", "_seen")

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen = Ordinals()

    def row(
        self, record: Record, variables: Mapping[str, Value], tags: Mapping[str, str], key: str | None
    ) -> Row:
        """The row, named by `key` or else by its content.

        Args:
            record: as read.
            variables: coerced, before defaults.
            tags: resolved for this row.
            key: the value of the `--key` column.

        Raises:
            InputError: the key was there before.
        """
        content = content_digest(variables)
        if key is None:
            name = row_key(content, self._seen.next(content))
        else:
            name = key
            if self._seen.next(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()):
                remedy = "a key names one row; leave --key out to name rows by their content"
                raise InputError(
                    f"key {key!r} is there twice", file=self._file, line=record.line, remedy=remedy
                )
        return Row(record.number, record.line, name, content, variables, record.cells, tags)


def _canonical(value: Value) -> Value:
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
