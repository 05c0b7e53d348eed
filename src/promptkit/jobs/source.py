"""Where the rows of a job come from: a file, standard input, or mappings in memory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final, Protocol, TypeAlias, cast

from promptkit.batch import Dialect, Format, Record, excel_like, manner, read_rows
from promptkit.batch.matrix import NO_ROWS
from promptkit.errors import InputError
from promptkit.types import Json

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
