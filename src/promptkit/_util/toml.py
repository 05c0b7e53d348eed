"""TOML, read key by key: every error names the file, the line and a remedy.

A reader takes the keys it knows from a `Table` and then calls `finish`, which refuses all other
keys. tomllib keeps no positions, so the line is searched for in the text, and only for an
error.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar, cast

from promptkit.errors import ConfigError, PromptKitError, closest

_E = TypeVar("_E", bound=Enum)
_D = TypeVar("_D")


class _Required:
    """The default of a required key."""


REQUIRED = _Required()
_HEADER = re.compile(r"^\s*\[{1,2}\s*(?P<path>[^\]]+?)\s*\]{1,2}")
_KEY = re.compile(r"""^\s*(?P<key>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_SYNTAX_LINE = re.compile(r"\(at line (\d+), column \d+\)")
Path = tuple[str | int, ...]


def parse(text: str, *, file: str, error: type[PromptKitError] = ConfigError, line_offset: int = 0) -> Table:
    """Parse TOML.

    Args:
        text: the document.
        file: its name, for messages.
        error: the class of every error about it.
        line_offset: how many lines of the file come before the document.

    Raises:
        PromptKitError: of class `error`, if it isn't TOML.
    """
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as cause:
        match = _SYNTAX_LINE.search(str(cause))
        line = int(match[1]) if match else text.count("\n") + 1
        problem = _SYNTAX_LINE.sub("", str(cause)).strip()
        raise error(f"not valid TOML: {problem}", file=file, line=line + line_offset) from None
    return Table(data, (), _Source(text, file, error, line_offset))


class _Source:
    """The document of a table, to find lines in it."""

    __slots__ = ("error", "file", "line_offset", "text")

    def __init__(self, text: str, file: str, error: type[PromptKitError], line_offset: int) -> None:
        self.text = text
        self.file = file
        self.error = error
        self.line_offset = line_offset

    def line(self, path: Path) -> int | None:
        """Return the line of the key at `path`, or of its nearest parent.

        The line of a table without a header is where it is first named: `[brand.fields.name]`
        for `brand`.
        """
        nearest: tuple[int, bool] = (0, False)
        line: int | None = None
        for number, here in _positions(self.text):
            shared = _shared(here, path)
            near = (shared, shared == len(here))
            if near > nearest and shared:
                nearest, line = near, number + self.line_offset
        return line


def _positions(text: str) -> Iterator[tuple[int, Path]]:
    """Yield line and path of every header and key; items of an array of tables are counted from 0."""
    counts: dict[Path, int] = {}
    base: Path = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            base = _with_index(_parts(header["path"]), counts, array=line.lstrip().startswith("[["))
            yield number, base
        elif key := _KEY.match(line):
            yield number, base + _parts(key["key"])


def _with_index(path: Path, counts: dict[Path, int], *, array: bool) -> Path:
    """Add the index of the current item after each array of tables in a header's path."""
    done: Path = ()
    for part in path[:-1]:
        done += (part,)
        if done in counts:
            done += (counts[done],)
    done += (path[-1],)
    if not array:
        return done
    counts[done] = counts.get(done, -1) + 1
    return (*done, counts[done])


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _shared(here: Path, path: Path) -> int:
    """Count the leading parts that two paths share."""
    count = 0
    for left, right in zip(here, path, strict=False):
        if left != right:
            break
        count += 1
    return count


class Table:
    """A TOML table that remembers which of its keys were read.

    Readers raise the document's own error class if a value is missing or of the wrong type.
    A reader without a `default` requires the key.
    """

    __slots__ = ("_data", "_path", "_read", "_source")

    def __init__(self, data: Mapping[str, Any], path: Path, source: _Source) -> None:
        self._data = data
        self._path = path
        self._source = source
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def keys(self) -> Sequence[str]:
        """Return the keys, in the document's order."""
        return list(self._data)

    @property
    def file(self) -> str:
        """The document's name."""
        return self._source.file

    @property
    def data(self) -> Mapping[str, Any]:
        """The table as plain values (numbers with a point are Decimal)."""
        return self._data

    def fail(self, message: str, key: str | None = None, *, remedy: str | None = None) -> PromptKitError:
        """Return the error to raise about this table or one of its keys."""
        path = self._path if key is None else (*self._path, key)
        return self._source.error(message, file=self.file, line=self._source.line(path), remedy=remedy)

    def raw(self, key: str, default: _D | _Required = REQUIRED) -> Any | _D:
        """Read any value."""
        self._read.add(key)
        if key in self._data:
            return self._data[key]
        if isinstance(default, _Required):
            raise self.fail(f"{self._name(key)} is missing")
        return default

    def text(self, key: str, default: str | _D | _Required = REQUIRED) -> str | _D:
        """Read a string."""
        return self._typed(key, default, str, "a string")

    def flag(self, key: str, default: bool | _D | _Required = REQUIRED) -> bool | _D:  # noqa: FBT001 - as in dict.get
        """Read a boolean."""
        return self._typed(key, default, bool, "true or false")

    def integer(
        self, key: str, default: int | _D | _Required = REQUIRED, *, least: int | None = None
    ) -> int | _D:
        """Read a whole number, at least `least`."""
        value = self._typed(key, default, int, "a whole number")
        return self._bounded(key, value, least)

    def number(
        self, key: str, default: Decimal | _D | _Required = REQUIRED, *, least: float | None = None
    ) -> Decimal | _D:
        """Read a finite number as an exact Decimal, at least `least`."""
        value: Any = self._typed(key, default, (int, Decimal), "a number")
        if key not in self._data:
            return value
        exact = Decimal(value)
        if not exact.is_finite():
            raise self.fail(f"{self._name(key)} must be a finite number", key)
        return self._bounded(key, exact, least)

    def date(self, key: str, default: date | _D | _Required = REQUIRED) -> date | _D:
        """Read a date without a time."""
        value = self._typed(key, default, date, "a date like 2026-11-21")
        if isinstance(value, datetime):
            raise self.fail(f"{self._name(key)} must be a date without a time", key)
        return value

    def texts(self, key: str, default: tuple[str, ...] | _Required = REQUIRED) -> tuple[str, ...]:
        """Read a list of strings."""
        value = self.raw(key, default)
        if value is default:
            return cast("tuple[str, ...]", value)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
            raise self.fail(f"{self._name(key)} must be a list of strings", key)
        return tuple(cast("list[str]", value))

    def choice(self, key: str, kind: type[_E], default: _E | _D | _Required = REQUIRED) -> _E | _D:
        """Read one of an enum's values."""
        value = self.raw(key, default)
        if value is default:
            return cast("_E | _D", value)
        for member in kind:
            if member.value == value:
                return member
        allowed = [str(member.value) for member in kind]
        raise self.fail(f"{self._name(key)} can't be {value!r}", key, remedy=closest(str(value), allowed))

    def table(self, key: str) -> Table:
        """Read a table; an empty one if the key is absent."""
        value = self.raw(key, cast("dict[str, Any]", {}))
        if not isinstance(value, dict):
            raise self.fail(f"{self._name(key)} must be a table", key)
        return Table(cast("dict[str, Any]", value), (*self._path, key), self._source)

    def tables(self, key: str) -> list[Table]:
        """Read an array of tables; an empty one if the key is absent."""
        value = self.raw(key, cast("list[Any]", []))
        if not isinstance(value, list) or not all(
            isinstance(item, dict) for item in cast("list[Any]", value)
        ):
            raise self.fail(f"{self._name(key)} must be an array of tables ([[{key}]])", key)
        items = cast("list[dict[str, Any]]", value)
        return [Table(item, (*self._path, key, index), self._source) for index, item in enumerate(items)]

    def items_tables(self) -> Iterator[tuple[str, Table]]:
        """Yield the name and table of every member; a member that is not a table is an error."""
        for key in self._data:
            yield key, self.table(key)

    def finish(self) -> None:
        """Refuse keys that were not read.

        Raises:
            PromptKitError: with the key, its line and the closest known key.
        """
        for key in self._data:
            if key not in self._read:
                raise self.fail(f"unknown key {self._name(key)}", key, remedy=closest(key, self._read))

    def _name(self, key: str) -> str:
        parts = [str(part) for part in (*self._path, key) if not isinstance(part, int)]
        return ".".join(parts)

    def _typed(self, key: str, default: Any, kind: type | tuple[type, ...], words: str) -> Any:
        value = self.raw(key, default)
        if key not in self._data:
            return value
        # bool is an int in Python, not in TOML.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(f"{self._name(key)} must be {words}", key)
        return value

    def _bounded(self, key: str, value: Any, least: float | None) -> Any:
        if key in self._data and least is not None and value < least:
            raise self.fail(f"{self._name(key)} must be at least {least}", key)
        return value
