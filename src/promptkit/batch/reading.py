"""Rows out of CSV, TSV, JSONL and JSON, one at a time: memory stays flat however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from .decode import Decoder, blocks
from .dialect import Format, sniff
from .json_rows import json_array, jsonl
from .lines import Lines, Record
from .table import Table

MAX_ROW_CHARS: Final = 8 * 1024 * 1024
"""A row may hold this much text; past it a quote was left open, or the file is no table."""


class Rows:
    """The rows of one file, to be iterated once.

    Attributes:
        name: the file's name, for messages.
        dialect: how it is written.
        columns: the header's names in order; None for JSONL and JSON, where each row names its own.
    """

    __slots__ = ("_decoder", "_records", "columns", "dialect", "name")

    def __init__(self, chunks: Iterable[bytes], *, name: str, format: Format | None, limit: int) -> None:  # noqa: A002
        data = blocks(chunks)
        head = next(data, b"")
        self.name = name
        self.dialect = sniff(head, name=name, format=format)
        self.columns: tuple[str, ...] | None = None
        self._decoder = Decoder(self.dialect.encoding, name, self.dialect.newline)
        text = self._decoder.decode(chain((head,), data))
        self._records = self._read(text, limit)

    @property
    def encoding(self) -> str:
        """The encoding, as far as the text read so far tells."""
        return self._decoder.encoding or "utf-8"

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def _read(self, text: Iterator[str], limit: int) -> Iterator[Record]:
        if self.dialect.format is Format.JSON:
            return json_array(text, self.name, limit)
        lines = Lines(text, self.dialect.newline, self.name, limit)
        if self.dialect.format is Format.JSONL:
            return jsonl(lines, self.name)
        table = Table(lines, self.dialect, self.name, limit)
        self.columns = tuple(name for name in table.header if name)
        return table.records()


def read_rows(
    chunks: Iterable[bytes],
    *,
    name: str,
    format: Format | None = None,  # noqa: A002 - the option's name
    max_row_chars: int = MAX_ROW_CHARS,
) -> Rows:
    """Read the rows of a file.

    Args:
        chunks: its bytes in order, in pieces of any size (an open binary file will do).
        name: its name, for its extension and for messages (`-` for standard input).
        format: what the user says it is; else the name, else the first character tells.
        max_row_chars: a longer row is refused.

    Raises:
        InputError: with file and line, here or while iterating: empty, no text, bytes that can't be
            decoded, a column name given twice, an unclosed
            quote, JSON that is no object, a row past the limit.
    """
    return Rows(chunks, name=name, format=format, limit=max_row_chars)
