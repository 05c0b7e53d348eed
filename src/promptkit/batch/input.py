"""The input of a job: a source of records, read once and bound to the template's variables."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Protocol, TypeAlias, cast

from promptkit.engine.context import Session
from promptkit.errors import InputError, VariableError, counted
from promptkit.ledger.records import InputRead, RowStart
from promptkit.templates.template import Template
from promptkit.types import Json, Value
from promptkit.types.ids import read_id

from .binding import NO_ROWS, Binding, Namer, cell_text
from .columns import ADDED, WHY, as_input, call_column, excel_like
from .options import JobOptions
from .tables import Dialect, Format, Record, dialect_notice, garbled_columns, read_rows

_MAX_NOTICES = 5
"""At most so many odd rows get a notice of their own; the others are counted."""


class InputReader:
    """Reads the rows of a job once.

    Args:
        session: makes ids, and takes notices.
        template: the template of the rows.
        file: the input's name, for messages.
        reading: the records.
        options: how columns fill variables, tags and keys.
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
        if columns is not None:
            columns = tuple(name for name in columns if name not in ADDED or WHY not in columns)
            options.each.check(columns, file)
            columns = options.each.columns(columns)
        self._binding = Binding(columns, template.spec.variables, options, file)
        self._namer = Namer(file)
        self._columns: dict[str, None] = dict.fromkeys(columns or ())
        """All columns, in the order in which they first appeared."""
        self._odd: Counter[tuple[str, str]] = Counter()
        """The notices by noun and problem: how many rows are invalid, and so on."""

    def rows(self) -> Iterator[RowStart]:
        """Yield the rows as the ledger takes them.

        Raises:
            InputError: the table itself is broken, or (strict) a row doesn't fit.
        """
        for record in self._records():
            for column in record.cells:
                self._columns.setdefault(column)
            for column, meant in garbled_columns(record):
                self._notice(
                    "row",
                    "look encoded twice",
                    f"{self._file}:{record.line}: row {record.number}, column {column!r} looks encoded twice: "
                    f"{meant!r} was probably meant",
                )
            yield self._row(record)

    def _records(self) -> Iterator[Record]:
        records, columns = iter(self._reading), self._reading.columns
        if columns is None or WHY in columns:  # the failed rows of another job
            records = as_input(records, table=columns is not None)
        return self._options.each.records(records, self._file) if self._options.each else records

    def _row(self, record: Record) -> RowStart:
        tags = self._binding.tags(record)
        error = None
        try:
            variables = self._variables(record)
        except VariableError as cause:
            if self._options.strict:
                raise InputError(cause.message, file=self._file, line=record.line) from None
            variables, error = {}, cause.message
            self._notice(
                "row",
                "are invalid",
                f"{self._file}:{record.line}: row {record.number} is invalid: {cause.message}",
            )
        for flag in self._template.flags(variables):
            self._notice("untrusted text", "look like instructions", f"line {record.line}: {flag}")
        row = self._namer.row(record, variables, tags, self._binding.key(record))
        return RowStart(
            id=self._session.ids(),
            key=row.key,
            content=row.content,
            position=record.number - 1,
            line=record.line,
            variables=variables,
            passthrough=record.cells,
            tags=tags,
            deliverable=tags.get("deliverable"),
            parent_call_id=self._parent(record),
            error=error,
        )

    def _variables(self, record: Record) -> dict[str, Value]:
        if record.broken is not None:
            raise VariableError(record.broken)
        return self._template.bind(self._binding.variables(record))

    def _parent(self, record: Record) -> int | None:
        """Return the call that made this row according to an earlier output; the ledger knows if it exists."""
        column = call_column(record.cells)
        if column is None or column in self._template.spec.variables:
            return None
        try:
            return read_id(cell_text(record.cells[column]).strip())
        except ValueError:  # a column of the user's own
            return None

    def _notice(self, noun: str, problem: str, text: str) -> None:
        self._odd[noun, problem] += 1
        if self._odd[noun, problem] <= _MAX_NOTICES:
            self._session.notice(text)

    def read(self) -> InputRead:
        """Return what was read, once `rows` has ended: all columns in order, and the digest."""
        return InputRead(tuple(self._columns), input_digest(self._reading.sha256, self._options))

    def notice(self) -> None:
        """Print notices about what was odd in the input."""
        if isinstance(self._reading, FileReading) and self._reading.notice:
            self._session.notice(f"{self._file}: {self._reading.notice}")
        if self._binding.unused:
            columns = ", ".join(self._binding.unused)
            self._session.notice(f"columns that the template doesn't use pass through: {columns}")
        for (noun, problem), count in self._odd.items():
            if count > _MAX_NOTICES:
                self._session.notice(
                    f"{counted(count, noun)} {problem}; the first {_MAX_NOTICES} are listed above"
                )


def input_digest(sha256: str | None, options: JobOptions) -> str | None:
    """Return a digest of the input file and of how it is read; None if the input can't be read twice.

    Args:
        sha256: the digest of the file.
        options: another `--map`, `-v`, `--tag` or `--each` makes other rows of the same file.
    """
    if sha256 is None:
        return None
    each = list(options.each.axes.items())  # their order numbers the rows
    read = (options.format, options.mapping, options.constants, options.tags, options.strict, each)
    text = json.dumps((sha256, *read), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_BLOCK = 1 << 18
_STDIN = "-"


class Source(Protocol):
    """Rows that can be read once."""

    name: str
    """Its name in messages; the absolute path of a file."""

    def read(self) -> Reading:
        """Start reading."""
        ...

    def sha256(self) -> str | None:
        """Return the digest of a file as it is now; None if the rows can be read only once."""
        ...


class Reading(Protocol):
    """One reading of a source."""

    @property
    def columns(self) -> Sequence[str] | None:
        """The columns of the header; None if each row names its own."""
        ...

    @property
    def sha256(self) -> str | None:
        """The digest of the input, once it was read to its end."""
        ...

    def __iter__(self) -> Iterator[Record]: ...


Rows: TypeAlias = "Iterable[Mapping[str, object]] | str | Path | HeadSource | None"
"""A path, `-`, mappings, or the first rows of a table; None if there is no table."""


def source_of(rows: Rows, format_: Format | None) -> Source:
    """Return the source of a user's rows."""
    if isinstance(rows, HeadSource):
        return rows
    if rows is None:
        return NoSource()
    if isinstance(rows, str | Path):
        return FileSource(str(rows), format_)
    return MemorySource(rows)


class HeadSource:
    """The first rows of a table, read once: for several jobs on the same rows.

    Args:
        source: the table.
        count: how many rows.

    Raises:
        InputError: it can't be read, or is not a table.
    """

    def __init__(self, source: Source, count: int) -> None:
        self.name = source.name
        reading = source.read()
        records = list(islice(reading, count + 1))
        self.columns = reading.columns
        self.records = tuple(records[:count])
        self.is_all = len(records) <= count
        """Whether the table has no more rows."""

    def read(self) -> HeadReading:
        """Start reading."""
        return HeadReading(self.columns, self.records)

    def sha256(self) -> str | None:
        """Return None: the rows are read each time."""
        return None


@dataclass(frozen=True, slots=True)
class HeadReading:
    """One reading of the first rows of a table."""

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
        """Start reading; the file is closed at its end.

        Raises:
            InputError: it can't be opened, or is not a table.
        """
        return FileReading(self.name, self._format)

    def sha256(self) -> str | None:
        """Return the digest of the file as it is now; None for standard input."""
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
        """The columns of the header; None if each row names its own."""
        return self._rows.columns

    @property
    def sha256(self) -> str | None:
        """The digest of the input, once it was read to its end."""
        return self._hash.hexdigest() if self._done else None

    @property
    def dialect(self) -> Dialect:
        """How the file is written, as far as it was read."""
        dialect, encoding = self._rows.dialect, self._rows.encoding
        return replace(dialect, excel=excel_like(dialect, encoding))

    @property
    def encoding(self) -> str:
        """The encoding, as far as the file was read."""
        return self._rows.encoding

    @property
    def notice(self) -> str:
        """Encoding and delimiter, if they differ from what the format promises; else empty."""
        return dialect_notice(self._rows.dialect, self._rows.encoding)

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._rows
            self._done = True
        finally:
            self._file.close()

    def _chunks(self) -> Iterator[bytes]:
        with self._file:  # closed also if the reader stops early
            while block := self._file.read(_BLOCK):
                self._hash.update(block)
                yield block


class MemorySource:
    """Mappings of a script, in a collection or from a generator."""

    def __init__(self, rows: Iterable[Mapping[str, object]]) -> None:
        self.name = "(rows)"
        self._rows = rows
        self._is_read = False

    def read(self) -> MemoryReading:
        """Begin to read.

        Raises:
            InputError: they come from an iterator that was read before.
        """
        if self._is_read:
            raise InputError(
                "the rows come from an iterator that was read before", remedy="Give a list, or a file."
            )
        self._is_read = iter(self._rows) is self._rows
        return MemoryReading(self._rows)

    def sha256(self) -> str | None:
        """Return None: the rows are read each time."""
        return None


class NoSource:
    """No table: one row without columns, for constants and `--each`."""

    name = NO_ROWS

    def read(self) -> MemoryReading:
        """Start reading."""
        return MemoryReading(({},), ())

    def sha256(self) -> str | None:
        """Return None: there is no file."""
        return None


class MemoryReading:
    """One reading of mappings; a row counts as a line."""

    sha256: str | None = None

    def __init__(self, rows: Iterable[Mapping[str, object]], columns: Sequence[str] | None = None) -> None:
        self._rows = rows
        self.columns = columns

    def __iter__(self) -> Iterator[Record]:
        for number, row in enumerate(self._rows, start=1):
            yield Record(number, number, cast("dict[str, Json]", dict(row)))


def _open(name: str) -> IO[bytes]:
    if name == _STDIN:
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by the parent process
            raise InputError("standard input is closed", remedy="Name a file, or pipe the rows in.")
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as cause:
        raise InputError(f"can't be read: {cause.strerror}", file=name) from None
