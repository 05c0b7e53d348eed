"""CSV and TSV: a header, then records, with quotes and newlines in cells."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import cast

from promptkit.errors import InputError, counted
from promptkit.types import Json

from .dialect import Dialect
from .lines import Lines, Record


class Table:
    """CSV and TSV: a header, then records."""

    __slots__ = ("_line", "_lines", "_name", "_reader", "header")

    def __init__(self, lines: Lines, dialect: Dialect, name: str, limit: int) -> None:
        # csv's own limit is the process's, and counts a cell; ours counts a row: it must not come first.
        if csv.field_size_limit() < limit:
            csv.field_size_limit(limit)
        self._name = name
        self._lines = lines
        numbered = iter(lines)
        for _ in range(dialect.preamble):
            next(numbered)
        self._reader = csv.reader(numbered, delimiter=dialect.delimiter, strict=True)
        self._line = 0
        self.header = self._read_header()

    def _read_header(self) -> list[str]:
        header = [cell.strip() for cell in next(self._cells(), list[str]())]
        if not header:
            raise InputError(
                "the file has no header", file=self._name, remedy="name the columns in its first line"
            )
        twice = [name for name, times in Counter(filter(None, header)).items() if times > 1]
        if twice:
            names = ", ".join(map(repr, twice))
            raise InputError(
                f"column {names} is there twice",
                file=self._name,
                line=self._line,
                remedy="rename one of them",
            )
        return header

    def _cells(self) -> Iterator[list[str]]:
        """Cells of each record that is not blank (Excel writes `;;;` for an emptied row)."""
        while True:
            self._line = self._lines.begin()
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise self._malformed(error) from error
            if cells is None:
                return
            if any(cells):
                yield cells

    def records(self) -> Iterator[Record]:
        """The records below the header.

        Raises:
            InputError: a record has a cell under no name, or is malformed. One with cells beyond the
                header's is `broken`, and the others can be read.
        """
        header, width = self.header, len(self.header)
        unnamed = [place for place, name in enumerate(header) if not name]
        for number, cells in enumerate(self._cells(), 1):
            broken = self._fit(cells, width) if len(cells) != width else None
            row = dict(zip(header, cells, strict=True))
            if unnamed:
                self._drop_unnamed(row, cells, unnamed)
            yield Record(number, self._line, cast("dict[str, Json]", row), broken)

    @staticmethod
    def _fit(cells: list[str], width: int) -> str | None:
        """Make a row as wide as the header; returns what is wrong where cells are too many."""
        broken = None
        if any(cells[width:]):
            told = counted(len(cells), "cell")
            broken = (
                f"the row has {told}, the header {width}: put quotes around a cell that holds a delimiter"
            )
        # Missing cells are empty: Excel leaves trailing delimiters out, now and then.
        cells[width:] = [""] * (width - len(cells))
        return broken

    def _drop_unnamed(self, row: dict[str, str], cells: list[str], unnamed: list[int]) -> None:
        filled = [place for place in unnamed if cells[place]]
        if filled:
            what = f"column {filled[0] + 1} has no name, yet this row has a value in it"
            raise InputError(what, file=self._name, line=self._line, remedy="name it in the header")
        del row[""]

    def _malformed(self, error: csv.Error) -> InputError:
        if "unexpected end of data" in str(error):
            what, remedy = (
                "a quote that opens in this row is never closed",
                'close it, or double it ("") inside a cell',
            )
        else:
            what, remedy = f"not well-formed: {error}", 'a quote inside a quoted cell is written twice ("")'
        return InputError(what, file=self._name, line=self._line, remedy=remedy)
