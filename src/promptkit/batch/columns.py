"""Output rows: the input's columns, what became of the row, and how that is written.

A spreadsheet runs a cell that starts with `=`, `+`, `-`, `@`, a tab or a carriage return. In CSV
and TSV such a cell gets an apostrophe in front, in every column: a formula in the user's own
column came from somewhere too. A plain number (`-5`, `+33 6 12 34 56 78`, `-12,5 %`) runs nothing
and stays as it is. JSONL and JSON carry all text as it is.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from promptkit.errors import UsageError
from promptkit.types import Json, RowResult, usd
from promptkit.types.ids import show_id

from .binding import cell_text
from .tables import Dialect, Format, Record, format_of

PREFIX: Final = "promptkit_"


_TEXT: Final = "text"


_FACTS: Final = (
    "status",
    "error",
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "target",
    "template",
    "call",
)


_FLAGS: Final = ("flags",)


_RUNS: Final = ("=", "+", "-", "@", "\t", "\r")


_NUMBER: Final = re.compile(r"[+-][\d\s.,]*\d[\s%€$£]*")


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of an output file.

    `cells` are the input's, as they are; `body` maps each field of a structured reply, or `text`,
    to its column; `facts` does so for the rest. A name already taken gets the prefix `promptkit_`.
    """

    cells: tuple[str, ...]
    body: Mapping[str, str]
    facts: Mapping[str, str]
    structured: bool = False

    @property
    def header(self) -> tuple[str, ...]:
        """All columns, in order."""
        return (*self.cells, *self.body.values(), *self.facts.values())

    def record(self, result: RowResult) -> dict[str, Json]:
        """One output row, by column: money as a decimal string, what is unknown as None."""
        parsed = result.parsed if isinstance(result.parsed, dict) else {}
        values = parsed if self.structured else {_TEXT: result.text}
        facts = _facts(result)
        row = {column: result.cells[column] for column in self.cells if column in result.cells}
        row.update((column, values.get(field)) for field, column in self.body.items())
        row.update((column, facts[field]) for field, column in self.facts.items())
        return row


def layout(
    columns: Sequence[str],
    schema: Mapping[str, Json] | None = None,
    *,
    flagged: bool = False,
    text_as: str | None = None,
) -> Layout:
    """Lay out the output.

    Args:
        columns: the input's columns (of JSON rows: all that were met).
        schema: the JSON Schema of a structured reply; its top-level properties become columns.
        flagged: whether replies have checks: then what they are kept with is a column, `flags`.
        text_as: the name of the text's column, instead of `text`.
    """
    fields = schema_fields(schema)
    taken = set(columns)
    if fields:
        body = {field: _free_name(field, taken) for field in fields}
    else:
        body = {_TEXT: _free_name(text_as or _TEXT, taken)}
    facts = {field: _free_name(field, taken) for field in (*_FACTS, *_FLAGS[: int(flagged)])}
    return Layout(tuple(columns), body, facts, structured=bool(fields))


def check_text_as(name: str, columns: Collection[str], schema: Mapping[str, Json] | None) -> None:
    """Refuse a name that the text's column can't have.

    Raises:
        UsageError: it is empty, or a column of the input; replies are fields, which have names.
    """
    fields = schema_fields(schema)
    if not name.strip() or name != name.strip():
        what = f"--text-as {name!r} is no name for a column"
    elif fields:
        what = f"--text-as {name!r}: the replies are fields ({', '.join(fields)}), and no text"
    elif name in columns:
        what = f"--text-as {name!r}: the input has a column of that name"
    else:
        return
    raise UsageError(what, remedy="Leave it out." if fields else "For example --text-as hooks")


def call_column(columns: Collection[str]) -> str | None:
    """The column in which an earlier output says which call made its row.

    A chain of outputs has several, each with one more prefix than that before: the last counts.
    """
    name, found = "call", None
    while name in columns:
        found, name = name, PREFIX + name
    return found


def schema_fields(schema: Mapping[str, Json] | None) -> tuple[str, ...]:
    """The top-level properties that a schema names; none where a reply is no such object."""
    properties = None if schema is None else schema.get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()


def usd_text(pico: int | None) -> str | None:
    """Money as JSON says it: a plain decimal string without trailing zeros; None is unknown."""
    if pico is None:
        return None
    text = f"{usd(pico):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def output_format(name: str | None, source: Dialect, said: Format | None = None) -> Format:
    """The format to write: what the user says, else the output file's extension, else the input's."""
    return said or (None if name is None else format_of(name)) or source.format


@dataclass(frozen=True, slots=True)
class Writer:
    """Encodes an output file: `start`, each `row`, `end`, in that order."""

    start: bytes
    row: Callable[[Mapping[str, Json]], bytes]
    end: bytes = b""


def writer(
    format: Format,  # noqa: A002
    header: Sequence[str],
    *,
    delimiter: str = ",",
    mark: bool = False,
    guard: Callable[[Json], str] | None = None,
) -> Writer:
    """The writer of a format.

    Args:
        format: CSV, TSV, JSONL or JSON.
        header: all columns, for CSV and TSV.
        delimiter: what parts the cells of CSV; follow the input's (Excel in French writes `;`).
        mark: begin CSV with a UTF-8 byte order mark: Excel needs it to read accents. Say so where
            the input came with one, or in cp1252 or UTF-16 (see `excel_like`).
        guard: how a cell of CSV and TSV is written; by default as `neutral` does.
    """
    if format is Format.JSONL:
        return Writer(b"", lambda row: _json_bytes(row) + b"\n")
    if format is Format.JSON:
        return Writer(b"[\n", _json_member(), b"\n]\n")
    cell = guard or _cell
    to_line = _csv_line("\t" if format is Format.TSV else delimiter)
    start = (b"\xef\xbb\xbf" if mark else b"") + to_line([neutral(name) for name in header])
    return Writer(start, lambda row: to_line([cell(row.get(name)) for name in header]))


def excel_like(dialect: Dialect, encoding: str) -> bool:
    """Whether a table looks as Excel writes it, so that the output should open in Excel too."""
    return dialect.encoding is not None or encoding != "utf-8"


def neutral(text: str) -> str:
    """A cell's text, with an apostrophe in front where a spreadsheet would run it."""
    return f"'{text}" if text.startswith(_RUNS) and not _NUMBER.fullmatch(text) else text


def _facts(result: RowResult) -> dict[str, Json]:
    return {
        "status": result.status.value,
        "error": result.error,
        "cost_usd": usd_text(None if result.cost is None else result.cost.pico),
        "input_tokens": None if result.usage is None else result.usage.input_tokens,
        "output_tokens": None if result.usage is None else result.usage.output_tokens,
        "target": None if result.target is None else str(result.target),
        "template": None if result.template is None else str(result.template),
        "call": None if result.call is None else show_id(result.call),
        "flags": "; ".join(result.flags) or None,
    }


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name = PREFIX + name
    taken.add(name)
    return name


def _cell(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return neutral(cell_text(value))


def _csv_line(delimiter: str) -> Callable[[Sequence[str]], bytes]:
    buffer = io.StringIO(newline="")
    lines = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")

    def encode(cells: Sequence[str]) -> bytes:
        buffer.seek(0)
        buffer.truncate()
        lines.writerow(cells)
        return _utf8(buffer.getvalue())

    return encode


def _json_member() -> Callable[[Mapping[str, Json]], bytes]:
    separators: Iterator[bytes] = iter((b"",))
    return lambda row: next(separators, b",\n") + _json_bytes(row)


def _json_bytes(row: Mapping[str, Json]) -> bytes:
    return _utf8(json.dumps(row, ensure_ascii=False))


def _utf8(text: str) -> bytes:
    # Half a character (an emoji cut by the output limit) must not lose the row.
    return text.encode("utf-8", "replace")


WHY: Final = "promptkit_failed"


WHERE: Final = "promptkit_failed_at"


ADDED: Final = (WHY, WHERE)


_GUARDED: Final = re.compile(r"'+[=+\-@\t\r]")


def guarded(cell: Json) -> str:
    """A cell as it is written into a table: text that would run, or looks guarded already, has one apostrophe more."""
    text = cell_text(cell)
    return f"'{text}" if _GUARDED.match(text) or neutral(text) != text else text


def unguarded(cell: Json) -> Json:
    """The cell that was guarded."""
    return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell


def as_input(records: Iterable[Record], *, table: bool) -> Iterator[Record]:
    """The rows of a list of failed rows, as they were before; other rows as they are.

    Args:
        records: as read.
        table: whether they come from CSV or TSV, whose cells were guarded.
    """
    for record in records:
        if WHY in record.cells:
            yield Record(record.number, record.line, _before(record.cells, table=table), record.broken)
        else:
            yield record


def _before(cells: Mapping[str, Json], *, table: bool) -> dict[str, Json]:
    kept = {name: cell for name, cell in cells.items() if name not in ADDED}
    return {name: unguarded(cell) for name, cell in kept.items()} if table else kept
