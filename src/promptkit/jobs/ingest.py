"""From a table's records to the rows of a job: bound, named, and told about where they are odd."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Final

from promptkit.batch import Binding, Namer, Record, call_column, cell_text, garbled_columns
from promptkit.batch.failed import ADDED, WHY, as_input
from promptkit.errors import InputError, VariableError, counted
from promptkit.ids import read_id
from promptkit.ledger import InputRead, RowStart
from promptkit.session import Session
from promptkit.templates import Skeleton
from promptkit.types import Value

from .options import JobOptions
from .source import FileReading, Reading

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
        skeleton: what the rows are for.
        file: the input's name, for messages.
        reading: the records.
        options: what the user says of the columns.
    """

    def __init__(
        self, session: Session, skeleton: Skeleton, file: str, reading: Reading, options: JobOptions
    ) -> None:
        self._session = session
        self._skeleton = skeleton
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
        self._binding = Binding(columns, skeleton.spec.variables, options.wishes, file)
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
            self._session.say(f"columns that the skeleton doesn't use pass through: {columns}")
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
                raise InputError(cause.what, file=self._file, line=record.line) from None
            bound, error = {}, cause.what
            self._tell_invalid(record, cause)
        for flag in self._skeleton.flags(bound):
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
        return self._skeleton.bind(self._binding.variables(record))

    def _parent(self, record: Record) -> int | None:
        """The call that an earlier output says made this row; whether there is one, the ledger knows."""
        column = call_column(record.cells)
        if column is None or column in self._skeleton.spec.variables:
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
            self._session.say(f"{self._file}:{record.line}: row {record.number} is invalid: {cause.what}")
