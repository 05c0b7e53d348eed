"""`--each VAR=A,B`: every row once for each combination of values.

The values stand in columns of their variables' names, as if the table had them: they fill the
variables, pass through to the output, and can be tags. A key gets them, too, so that a row keeps
its name whatever is added to a list, and a row that is paid stays paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from promptkit.errors import InputError, UsageError
from promptkit.types import Json

from .lines import Record

NO_ROWS: Final = "(no rows)"
"""The input's name where `--each` makes the rows by itself."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The values of each variable; the last one named changes fastest.

    Raises:
        UsageError: a variable has no value, or one twice.
    """

    axes: Mapping[str, Sequence[Json]] = field(default_factory=dict[str, Sequence[Json]])

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if not values:
                raise UsageError(f"--each {name} has no value", remedy=f"For example --each {name}=one,two")
            twice = next((value for at, value in enumerate(values) if value in values[:at]), None)
            if twice is not None:
                raise UsageError(f"--each {name} has {twice!r} twice", remedy="Leave one of them out.")

    def __bool__(self) -> bool:
        return bool(self.axes)

    def columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """A table's columns with those of the values."""
        return (*columns, *self.axes)

    def records(self, records: Iterable[Record], file: str) -> Iterator[Record]:
        """Each record times all combinations, numbered anew; a line is its own row's.

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
        """Refuse columns that the values would hide.

        Raises:
            InputError: naming the first.
        """
        for column in columns:
            if column in self.axes:
                raise InputError(
                    f"{column!r} comes from --each and from a column",
                    file=file,
                    line=line,
                    remedy="leave out one of them",
                )
