"""The columns that fill variables, tags and keys.

A cell fills the variable with the name of its column, or the one that `--map VAR=COLUMN` names. An
empty cell (white space alone is empty; in JSON also null) is an absent value. `-v` gives a variable
the same value in all rows; it is an error if a column fills that variable too. An object comes as
JSON, or from one column per field: `brand.name`, `brand.url`. Columns that fill nothing pass through
to the output, never to the prompt.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import TYPE_CHECKING, cast

from promptkit.errors import InputError, UsageError, VariableError
from promptkit.types import Json, Kind, Row, Value, Variable

from .tables import Record

if TYPE_CHECKING:
    from .options import JobOptions


class Binding:
    """The variables, tags and key of each row.

    Args:
        columns: the columns of the header; None if each row names its own.
        variables: the template's.
        options: how columns fill variables, tags and keys.
        file: the input's name, for messages.

    Attributes:
        unused: the header's columns that fill nothing and pass through; empty for JSON rows, whose
            columns are known row by row.
    """

    __slots__ = ("_columns", "_fields", "_file", "_known", "_options", "_tag_columns", "_tags", "unused")

    def __init__(
        self, columns: Sequence[str] | None, variables: Mapping[str, Variable], options: JobOptions, file: str
    ) -> None:
        self._file = file
        self._options = options
        self._columns = {name: options.mapping.get(name, name) for name in variables}
        self._fields = {
            name: [(path, options.mapping.get(".".join(path), ".".join(path))) for path in _paths(variable)]
            for name, variable in variables.items()
            if variable.kind is Kind.OBJECT
        }
        self._tags = constant_tags(options.tags)
        self._tag_columns = {name: value[1:] for name, value in options.tags.items() if _names_column(value)}
        fields = {column for parts in self._fields.values() for _, column in parts}
        self._known = {*self._columns.values(), *fields, *self._tag_columns.values(), options.key_column}
        _refuse_unknown(variables, options)
        self.unused: tuple[str, ...] = ()
        if columns is not None:
            self._check_header(columns, variables)
            self.unused = self._unused(columns, line=None)

    def variables(self, record: Record) -> dict[str, object]:
        """Return the values of a row as read; the template's `bind` coerces and checks them.

        Raises:
            InputError: a constant fills the same variable, or (strict) a column fills nothing.
        """
        cells, constants = record.cells, self._options.constants
        if self._options.strict:
            self._unused(cells, record.line)
        values: dict[str, object] = {}
        for name, column in self._columns.items():
            cell = cells.get(column)
            for path, part in self._fields.get(name, ()):
                if not _empty(filled := cells.get(part)):
                    cell = self._with_field(cell, path, filled, (column, record.line))
            if not _empty(cell):
                if name in constants:
                    raise self._contradiction(name, column, record.line)
                values[name] = cell
            elif name in constants:
                values[name] = constants[name]
        return values

    def _with_field(
        self, cell: Json, path: Sequence[str], filled: Json, where: tuple[str, int]
    ) -> dict[str, Json]:
        """Return an object with one more field, from a column of its own."""
        if not _empty(cell) and not isinstance(cell, _Fields):
            column, line = where
            message = f"column {column!r} contains the whole object, and {'.'.join(path)!r} a field of it"
            raise InputError(message, file=self._file, line=line, remedy="fill in one or the other")
        whole = cell if isinstance(cell, _Fields) else _Fields()
        inner: dict[str, Json] = whole
        for part in path[1:-1]:
            inner = cast("dict[str, Json]", inner.setdefault(part, {}))
        inner[path[-1]] = filled
        return whole

    def tags(self, record: Record) -> dict[str, str]:
        """Return the tags of a row; an empty cell makes none."""
        tags = dict(self._tags)
        for name, column in self._tag_columns.items():
            cell = record.cells.get(column)
            if not _empty(cell):
                tags[name] = cell_text(cell).strip()
        return tags

    def key(self, record: Record) -> str | None:
        """Return what identifies the row; None if its content does.

        Raises:
            InputError: the cell of the key is empty.
        """
        if self._options.key_column is None:
            return None
        cell = record.cells.get(self._options.key_column)
        if _empty(cell):
            message = f"the key column {self._options.key_column!r} is empty"
            raise InputError(
                message, file=self._file, line=record.line, remedy="give each row a key of its own"
            )
        values = (f" {name}={cell_text(record.cells.get(name))}" for name in self._options.each.axes)
        return cell_text(cell).strip() + "".join(values)

    def _check_header(self, columns: Sequence[str], variables: Mapping[str, Variable]) -> None:
        wanted = [*self._options.mapping.values(), *self._tag_columns.values()]
        if self._options.key_column is not None:
            wanted.append(self._options.key_column)
        for column in wanted:
            if column not in columns:
                remedy = f"columns: {', '.join(columns)}"
                raise InputError(
                    f"no column {column!r}{_like(column, columns)}", file=self._file, remedy=remedy
                )
        for name in self._options.constants:
            for column in self._sources(name):
                if column in columns:
                    raise self._contradiction(name, column, line=None)
        self._check_required(columns, variables)

    def _check_required(self, columns: Sequence[str], variables: Mapping[str, Variable]) -> None:
        missing = [
            name
            for name, variable in variables.items()
            if variable.required
            and name not in self._options.constants
            and not any(column in columns for column in self._sources(name))
        ]
        if missing:
            named = ", ".join(f"{name!r}{_like(name, self._free(columns))}" for name in missing)
            remedy = f"--map {missing[0]}=COLUMN or -v {missing[0]}=VALUE; columns: {', '.join(columns)}"
            raise VariableError(f"no column for the required {named}", file=self._file, remedy=remedy)

    def _sources(self, name: str) -> list[str]:
        """Return the columns that may fill a variable."""
        return [self._columns[name], *(column for _, column in self._fields.get(name, ()))]

    def _free(self, columns: Iterable[str]) -> list[str]:
        return [column for column in columns if column not in self._known]

    def _unused(self, columns: Iterable[str], line: int | None) -> tuple[str, ...]:
        unused = self._free(columns)
        if unused and self._options.strict:
            message = f"columns that the template does not declare: {', '.join(map(repr, unused))}"
            raise InputError(
                message, file=self._file, line=line, remedy="drop them, --map them, or leave --strict out"
            )
        return tuple(unused)

    def _contradiction(self, name: str, column: str, line: int | None) -> InputError:
        message = f"{name!r} comes from -v and from column {column!r}"
        return InputError(message, file=self._file, line=line, remedy="leave out one of them")


class _Fields(dict[str, Json]):
    """An object whose fields come from columns."""

    __slots__ = ()


def _paths(variable: Variable) -> list[tuple[str, ...]]:
    """Return the paths of the plain fields of an object."""
    if variable.kind is not Kind.OBJECT:
        return []
    return [
        (variable.name, *rest)
        for field in variable.fields.values()
        for rest in _paths(field) or [(field.name,)]
    ]


def cell_text(cell: Json) -> str:
    """Return a cell as text: text unchanged, anything else as JSON; None is empty."""
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def _refuse_unknown(variables: Mapping[str, Variable], options: JobOptions) -> None:
    declared = f"declared: {', '.join(variables)}" if variables else "the template declares none"
    fields = {".".join(path) for variable in variables.values() for path in _paths(variable)}
    for name in options.mapping:
        if name not in variables and name not in fields:
            raise UsageError(f"--map: no variable {name!r}{_like(name, variables)}", remedy=declared)
    for name in options.constants:
        if name not in variables:
            raise VariableError(f"no variable {name!r}{_like(name, variables)}", remedy=declared)
    for name in options.each.axes:
        if name not in variables and name not in fields:
            raise VariableError(f"--each: no variable {name!r}{_like(name, variables)}", remedy=declared)
        if name in options.constants:
            raise UsageError(f"{name!r} comes from -v and from --each", remedy="Leave out one of them.")
        if name in options.mapping:
            raise UsageError(f"{name!r} comes from --map and from --each", remedy="Leave out one of them.")


def constant_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are the same for all rows; `@@x` is the plain value `@x`."""
    return {name: value.removeprefix("@") for name, value in tags.items() if not _names_column(value)}


def _names_column(value: str) -> bool:
    return value.startswith("@") and not value.startswith("@@")


def _empty(cell: Json) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _like(name: str, names: Collection[str]) -> str:
    folded = {other.casefold(): other for other in names}
    close = get_close_matches(name.casefold(), folded, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(folded[match]) for match in close)}?)" if close else ""


_SLOTS = 1 << 12
_FULL = 2 / 3


def content_digest(variables: Mapping[str, Value]) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of a row's variables: sorted, no spaces, UTF-8.

    Whole numbers are the same in any notation: 3 and 3.0.
    """
    plain = {name: _canonical(value) for name, value in variables.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def row_key(content: str, ordinal: int) -> str:
    """Return the key (hex) of the row that is the `ordinal`th (from 0) with that content."""
    return hashlib.sha256(f"{content}:{ordinal}".encode()).hexdigest()


class Ordinals:
    """Counts how often each digest was seen, in 12 to 24 bytes per distinct digest.

    The first sight of a digest is a 63-bit prefix in a flat array; only repeated ones get an entry of
    their own. Two digests that share a prefix (a chance of 1 in 10^7 among a million rows) are counted
    together. That is harmless: the content distinguishes their row keys.
    """

    __slots__ = ("_limit", "_repeats", "_slots", "_used")

    def __init__(self) -> None:
        self._slots = array("Q", (0,)) * _SLOTS
        self._used = 0
        self._limit = int(_SLOTS * _FULL)
        self._repeats: dict[int, int] = {}

    def next(self, digest: str) -> int:
        """Return how often that digest (hex) came before."""
        mark = int(digest[:16], 16) | 1  # 0 is an empty slot
        if self._add(mark):
            return 0
        ordinal = self._repeats.get(mark, 0) + 1
        self._repeats[mark] = ordinal
        return ordinal

    def _add(self, mark: int) -> bool:
        if self._used >= self._limit:
            self._grow()
        slots, mask = self._slots, len(self._slots) - 1
        index = (mark >> 1) & mask
        while slots[index]:
            if slots[index] == mark:
                return False
            index = (index + 1) & mask
        slots[index] = mark
        self._used += 1
        return True

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", (0,)) * (2 * len(before))
        self._limit = int(len(self._slots) * _FULL)
        self._used = 0
        while before:  # in parts: both arrays at once would be the largest part of a large job's memory
            part = before[-_SLOTS:]
            del before[-_SLOTS:]
            for mark in part:
                if mark:
                    self._add(mark)


class Namer:
    """Gives the rows of one file their keys, in order."""

    __slots__ = ("_file", "_seen")

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen = Ordinals()

    def row(
        self, record: Record, variables: Mapping[str, Value], tags: Mapping[str, str], key: str | None
    ) -> Row:
        """Return the row, with its key or one from its content.

        Args:
            record: as read.
            variables: coerced, before defaults.
            tags: of this row.
            key: the value of the `--key` column.

        Raises:
            InputError: the key was there before.
        """
        content = content_digest(variables)
        if key is None:
            key = row_key(content, self._seen.next(content))
        elif self._seen.next(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()):
            remedy = "a key identifies one row; without --key, rows are identified by their content"
            raise InputError(
                f"the key {key!r} appears twice", file=self._file, line=record.line, remedy=remedy
            )
        return Row(record.number, record.line, key, content, variables, record.cells, tags)


def _canonical(value: Value) -> Value:
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


NO_ROWS = "(no rows)"
"""The name of the input if `--each` and constants make the rows."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The values of `--each` variables; the last variable changes fastest.

    Raises:
        UsageError: a variable has no value, or one twice.
    """

    axes: Mapping[str, Sequence[Json]] = field(default_factory=dict[str, Sequence[Json]])

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if not values:
                raise UsageError(f"--each {name} has no value", remedy=f"For example --each {name}=one,two")
            repeated = next((value for at, value in enumerate(values) if value in values[:at]), None)
            if repeated is not None:
                raise UsageError(f"--each {name} has {repeated!r} twice", remedy="Leave one of them out.")

    def __bool__(self) -> bool:
        return bool(self.axes)

    def columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of a table with those of the values."""
        return (*columns, *self.axes)

    def records(self, records: Iterable[Record], file: str) -> Iterator[Record]:
        """Yield each record once per combination, numbered anew; each keeps its line.

        Raises:
            InputError: a row has a column of that name already.
        """
        combinations = [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]
        number = 0
        for record in records:
            self.check(record.cells, file, record.line)
            for combination in combinations:
                number += 1
                yield Record(number, record.line, {**record.cells, **combination}, record.broken)

    def check(self, columns: Iterable[str], file: str, line: int | None = None) -> None:
        """Refuse columns with the name of a variable.

        Raises:
            InputError: there is one.
        """
        for column in columns:
            if column in self.axes:
                raise InputError(
                    f"{column!r} comes from --each and from a column",
                    file=file,
                    line=line,
                    remedy="leave out one of them",
                )
