"""From a table's records to the rows of a job: bound, named, and told about where they are odd."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import IO, Final, Protocol, TypeAlias, cast

from promptkit.engine.context import Session
from promptkit.errors import InputError, VariableError, counted
from promptkit.ledger.records import InputRead, RowStart
from promptkit.templates.template import Template
from promptkit.types import Json, Value
from promptkit.types.ids import read_id

from .binding import NO_ROWS, Binding, Namer, cell_text
from .columns import ADDED, WHY, as_input, call_column, excel_like
from .options import JobOptions
from .tables import Dialect, Format, Record, garbled_columns, manner, read_rows

_TOLD: Final = 5
"""So many odd rows are told one by one; the rest as a number."""


def input_digest(sha256: str | None, options: JobOptions) -> str | None:
    """What tells whether the same rows would come again: the file's digest, and how it is read.

    Args:
        sha256: of the file; None, where it can't be read twice, makes it None.
        options: another `--map`, `-v`, `--tag` or `--each` makes other rows of the same file.
    """
    if sha256 is None:
        return None
    each = list(options.each.axes.items())  # in their order, which numbers the rows
    read = (options.format, options.mapping, options.constants, options.tags, options.strict, each)
    told = json.dumps((sha256, *read), sort_keys=True, default=repr)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


class Reader:
    """Reads the rows of a job once.

    Args:
        session: makes ids and tells the user.
        template: what the rows are for.
        file: the input's name, for messages.
        reading: the records.
        options: what the user says of the columns.
    """

    def __init__(
        self, session: Session, template: Template, file: str, reading: Reading, options: JobOptions
    ) -> None:
        self._session = session
        self._template = template
        self._file = file
        self._reading = reading
        self._options = options
        columns = reading.columns
        self._again = columns is None or WHY in columns
        if columns is not None and self._again:
            columns = tuple(name for name in columns if name not in ADDED)
        if columns is not None:
            options.each.check(columns, file)
            columns = options.each.columns(columns)
        self._binding = Binding(columns, template.spec.variables, options.wishes, file)
        self._namer = Namer(file)
        self._met: dict[str, None] = dict.fromkeys(columns or ())
        self._garbled = 0
        self._invalid = 0
        self._suspect = 0

    def read(self) -> InputRead:
        """What was read: all columns in the order they were met, and the digest. For when `rows` has ended."""
        return InputRead(tuple(self._met), input_digest(self._reading.sha256, self._options))

    def rows(self) -> Iterator[RowStart]:
        """The rows as the ledger takes them.

        Raises:
            InputError: the table itself is broken, or (strict) a row doesn't fit.
        """
        for record in self._records():
            self._look(record)
            yield self._row(record)

    def _records(self) -> Iterator[Record]:
        each, records = self._options.each, iter(self._reading)
        if self._again:
            records = as_input(records, table=self._reading.columns is not None)
        return each.records(records, self._file) if each else records

    def tell(self) -> None:
        """Say what was odd about the input."""
        if isinstance(self._reading, FileReading) and self._reading.manner:
            self._session.say(f"{self._file}: {self._reading.manner}")
        if self._binding.unused:
            columns = ", ".join(self._binding.unused)
            self._session.say(f"columns that the template doesn't use pass through: {columns}")
        if self._garbled > _TOLD:
            self._session.say(
                f"{counted(self._garbled, 'row')} look encoded twice; the first {_TOLD} are told above"
            )
        if self._invalid > _TOLD:
            self._session.say(
                f"{counted(self._invalid, 'row')} are invalid; the first {_TOLD} are told above"
            )

        if self._suspect > _TOLD:
            self._session.say(
                f"{counted(self._suspect, 'untrusted text')} read like instructions; the first {_TOLD} are told above"
            )

    def _row(self, record: Record) -> RowStart:
        tags = self._binding.tags(record)
        error = None
        try:
            bound = self._bound(record)
        except VariableError as cause:
            if self._options.strict:
                raise InputError(cause.message, file=self._file, line=record.line) from None
            bound, error = {}, cause.message
            self._tell_invalid(record, cause)
        for flag in self._template.flags(bound):
            self._suspect += 1
            if self._suspect <= _TOLD:
                self._session.say(f"line {record.line}: {flag}")
        row = self._namer.row(record, bound, tags, self._binding.key(record))
        return RowStart(
            id=self._session.ids(),
            key=row.key,
            content=row.content,
            position=record.number - 1,
            line=record.line,
            variables=bound,
            passthrough=record.cells,
            tags=tags,
            deliverable=tags.get("deliverable"),
            parent_call_id=self._parent(record),
            error=error,
        )

    def _bound(self, record: Record) -> dict[str, Value]:
        if record.broken is not None:
            raise VariableError(record.broken)
        return self._template.bind(self._binding.variables(record))

    def _parent(self, record: Record) -> int | None:
        """The call that an earlier output says made this row; whether there is one, the ledger knows."""
        column = call_column(record.cells)
        if column is None or column in self._template.spec.variables:
            return None
        try:
            return read_id(cell_text(record.cells[column]).strip())
        except ValueError:  # a column of the user's own
            return None

    def _look(self, record: Record) -> None:
        for column in record.cells:
            if column not in self._met:
                self._met[column] = None
        for column, meant in garbled_columns(record):
            self._garbled += 1
            if self._garbled <= _TOLD:
                self._session.say(
                    f"{self._file}:{record.line}: row {record.number}, column {column!r} looks encoded twice: "
                    f"{meant!r} was probably meant"
                )

    def _tell_invalid(self, record: Record, cause: VariableError) -> None:
        self._invalid += 1
        if self._invalid <= _TOLD:
            self._session.say(f"{self._file}:{record.line}: row {record.number} is invalid: {cause.message}")


_BLOCK: Final = 1 << 18


_STDIN: Final = "-"


class Source(Protocol):
    """Rows that can be read once."""

    name: str
    """What it is called in messages; a file's absolute path."""

    def read(self) -> Reading:
        """Begin to read."""
        ...

    def sha256(self) -> str | None:
        """The digest of a file as it is now; None for what can be read only once."""
        ...


class Reading(Protocol):
    """One reading of a source."""

    @property
    def columns(self) -> Sequence[str] | None:
        """The header's columns; None where each row names its own."""
        ...

    @property
    def sha256(self) -> str | None:
        """The digest of what was read, once it was read to its end."""
        ...

    def __iter__(self) -> Iterator[Record]: ...


Rows: TypeAlias = "Iterable[Mapping[str, object]] | str | Path | HeadSource | None"
"""What rows can come from: a path, `-`, mappings, the head of a table; None for what needs no table."""


def source_of(rows: Rows, format_: Format | None) -> Source:
    """The source that a user means."""
    if isinstance(rows, HeadSource):
        return rows
    if rows is None:
        return NoSource()
    if isinstance(rows, str | Path):
        return FileSource(str(rows), format_)
    return MemorySource(rows)


class HeadSource:
    """The first rows of a table, read once and held: for several jobs on the same rows.

    Args:
        source: the table.
        most: how many rows are held.

    Raises:
        InputError: it can't be read, or is no table.
    """

    def __init__(self, source: Source, most: int) -> None:
        self.name = source.name
        reading = source.read()
        records = list(islice(reading, most + 1))
        self.columns = reading.columns
        self.records = tuple(records[:most])
        self.is_all = len(records) <= most
        """Whether the table ends there."""

    def read(self) -> HeadReading:
        """Begin to read them."""
        return HeadReading(self.columns, self.records)

    def sha256(self) -> str | None:
        """None: they are looked at again each time."""
        return None


@dataclass(frozen=True, slots=True)
class HeadReading:
    """One reading of rows that are held."""

    columns: Sequence[str] | None
    records: tuple[Record, ...]
    sha256: str | None = None

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)


class FileSource:
    """A file, or standard input for `-`."""

    def __init__(self, path: str, format_: Format | None) -> None:
        self.name = path if path == _STDIN else str(Path(path).absolute())
        self._format = format_

    def read(self) -> FileReading:
        """Begin to read; the file is closed at its end.

        Raises:
            InputError: it can't be opened, or is no table.
        """
        return FileReading(self.name, self._format)

    def sha256(self) -> str | None:
        """The digest of the file as it is now; None for standard input."""
        if self.name == _STDIN:
            return None
        digest = hashlib.sha256()
        with _open(self.name) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()


class FileReading:
    """One reading of a file."""

    def __init__(self, name: str, format_: Format | None) -> None:
        self._hash = hashlib.sha256()
        self._file = _open(name)
        self._done = False
        try:
            self._rows = read_rows(self._chunks(), name=name, format=format_)
        except BaseException:
            self._file.close()
            raise

    @property
    def columns(self) -> Sequence[str] | None:
        """The header's columns; None where each row names its own."""
        return self._rows.columns

    @property
    def sha256(self) -> str | None:
        """The digest of what was read, once it was read to its end."""
        return self._hash.hexdigest() if self._done else None

    @property
    def dialect(self) -> Dialect:
        """How the file is written."""
        return self._rows.dialect

    @property
    def encoding(self) -> str:
        """Its encoding, as far as it was read."""
        return self._rows.encoding

    @property
    def manner(self) -> str:
        """How it is written, where that isn't what its format promises; else empty."""
        return manner(self._rows.dialect, self._rows.encoding)

    @property
    def excel(self) -> bool:
        """Whether it looks as Excel writes tables."""
        return excel_like(self._rows.dialect, self._rows.encoding)

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._rows
            self._done = True
        finally:
            self._file.close()

    def _chunks(self) -> Iterator[bytes]:
        with self._file:  # closed too where nobody reads to the end
            while block := self._file.read(_BLOCK):
                self._hash.update(block)
                yield block


class MemorySource:
    """Mappings that a script holds or makes as it goes."""

    def __init__(self, rows: Iterable[Mapping[str, object]]) -> None:
        self.name = "(rows)"
        self._rows = rows
        self._spent = False

    def read(self) -> MemoryReading:
        """Begin to read.

        Raises:
            InputError: they come from an iterator, and were read before.
        """
        if self._spent:
            raise InputError(
                "the rows come from an iterator, which was read before", remedy="Give a list, or a file."
            )
        self._spent = iter(self._rows) is self._rows
        return MemoryReading(self._rows)

    def sha256(self) -> str | None:
        """None: the rows are looked at again each time."""
        return None


class NoSource:
    """No table: one row without a column, which constants and `--each` fill."""

    name = NO_ROWS

    def read(self) -> MemoryReading:
        """Begin to read."""
        return MemoryReading(({},), ())

    def sha256(self) -> str | None:
        """None: there is nothing to compare."""
        return None


class MemoryReading:
    """One reading of mappings; rows count as lines."""

    sha256: str | None = None

    def __init__(self, rows: Iterable[Mapping[str, object]], columns: Sequence[str] | None = None) -> None:
        self._rows = rows
        self.columns = columns

    def __iter__(self) -> Iterator[Record]:
        for number, row in enumerate(self._rows, start=1):
            yield Record(number, number, cast("dict[str, Json]", dict(row)))


def _open(name: str) -> IO[bytes]:
    if name == _STDIN:
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by who started us
            raise InputError("standard input is closed", remedy="Name a file, or pipe the rows in.")
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as cause:
        raise InputError(f"can't be read: {cause.strerror}", file=name) from None


Name = tuple[int, str, int]
"""A row's id, key and ordinal."""


def sample(rows: Iterable[Name], count: int, seed: int) -> frozenset[int]:
    """The ids of so many rows; all of them where there are fewer.

    Each row's lot comes from its key and the seed alone, so that the order of the input plays no
    part, and a row that is added or taken away changes the sample by at most one.
    """
    return frozenset(row_id for row_id, _, _ in nsmallest(count, rows, key=lambda row: _lot(row, seed)))


def _lot(row: Name, seed: int) -> bytes:
    _, key, ordinal = row
    return blake2b(f"{seed}\0{key}\0{ordinal}".encode("utf-8", "surrogatepass"), digest_size=12).digest()
