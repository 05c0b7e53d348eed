"""The columns of the output, and how its rows are encoded.

A spreadsheet runs a cell that starts with `=`, `+`, `-`, `@`, a tab or a carriage return. In CSV
and TSV, such a cell gets a leading apostrophe, also in the user's own columns. A plain number
(`-5`, `+33 6 12 34 56 78`, `-12,5 %`) runs nothing and is not changed. JSONL and JSON contain all
text unchanged.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from promptkit.errors import UsageError
from promptkit.types import Json, RowResult, usd
from promptkit.types.ids import show_id

from .binding import cell_text
from .tables import Dialect, Format, Record, format_of

PREFIX = "promptkit_"

WHY = "promptkit_failed"
WHERE = "promptkit_failed_at"
ADDED = (WHY, WHERE)
"""The columns that a file of failed rows has in addition to those of the input."""

_TEXT = "text"
_FACTS = (
    "status",
    "error",
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "target",
    "template",
    "call",
)
_FLAGS = ("flags",)

_RUNS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-][\d\s.,]*\d[\s%€$£]*")


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of an output file.

    `cells` are the columns of the input; `body` maps each field of a structured reply, or `text`, to
    its column; `facts` does so for the rest. A name that exists already gets the prefix `promptkit_`.
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
        """Return one output row, by column: money as a decimal string, unknown values as None."""
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
        columns: the input's columns (of JSON rows: all that appeared).
        schema: the JSON Schema of a structured reply; its top-level properties become columns.
        flagged: whether replies have checks; their failed checks are then a column, `flags`.
        text_as: the name of the text's column instead of `text`.
    """
    fields = schema_fields(schema)
    used = set(columns)
    if fields:
        body = {field: _free_name(field, used) for field in fields}
    else:
        body = {_TEXT: _free_name(text_as or _TEXT, used)}
    facts = {field: _free_name(field, used) for field in (*_FACTS, *_FLAGS[: int(flagged)])}
    return Layout(tuple(columns), body, facts, structured=bool(fields))


def check_text_as(name: str, columns: Collection[str], schema: Mapping[str, Json] | None) -> None:
    """Refuse a name that the text's column can't have.

    Raises:
        UsageError: it is empty or a column of the input, or replies are fields instead of a text.
    """
    fields = schema_fields(schema)
    if not name.strip() or name != name.strip():
        message = f"--text-as {name!r} is not a name for a column"
    elif fields:
        message = f"--text-as {name!r}: the replies are fields ({', '.join(fields)}), not a text"
    elif name in columns:
        message = f"--text-as {name!r}: the input has a column of that name"
    else:
        return
    raise UsageError(message, remedy="Leave it out." if fields else "For example --text-as hooks")


def call_column(columns: Collection[str]) -> str | None:
    """Return the column of an earlier output that names the call of each row.

    A chain of outputs has several, each with one more prefix than the one before: the last one counts.
    """
    name, last = "call", None
    while name in columns:
        last, name = name, PREFIX + name
    return last


def schema_fields(schema: Mapping[str, Json] | None) -> tuple[str, ...]:
    """Return the top-level properties that a schema names; none if replies are not such objects."""
    properties = None if schema is None else schema.get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()


def usd_text(pico: int | None) -> str | None:
    """Return money as in JSON: a plain decimal string without trailing zeros; None is unknown."""
    if pico is None:
        return None
    text = f"{usd(pico):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def output_format(name: str | None, like: Dialect, requested: Format | None = None) -> Format:
    """Return the format of the output: the user's, otherwise the file's by its extension, or the input's."""
    return requested or (None if name is None else format_of(name)) or like.format


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
    """Return the writer of a format.

    Args:
        format: CSV, TSV, JSONL or JSON.
        header: all columns, for CSV and TSV.
        delimiter: separates the cells of CSV; use the input's (French versions of Excel write `;`).
        mark: begin CSV with a UTF-8 byte order mark, which Excel needs to read accents (see
            `excel_like`).
        guard: writes a cell of CSV and TSV; by default, as `neutral` does.
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
    """Return whether a table looks as if Excel wrote it: the output should then open in Excel, too."""
    return dialect.encoding is not None or encoding != "utf-8"


def neutral(text: str) -> str:
    """Return the text of a cell, with a leading apostrophe if a spreadsheet would run it."""
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


def _free_name(name: str, used: set[str]) -> str:
    while name in used:
        name = PREFIX + name
    used.add(name)
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


_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guarded(cell: Json) -> str:
    """Return a cell with one more apostrophe if a spreadsheet would run it, or if it looks guarded already."""
    text = cell_text(cell)
    return f"'{text}" if _GUARDED.match(text) or neutral(text) != text else text


def unguarded(cell: Json) -> Json:
    """Return a cell without the apostrophe of `guarded`."""
    return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell


def as_input(records: Iterable[Record], *, table: bool) -> Iterator[Record]:
    """Yield the rows of a file of failed rows as they were in the input; other rows unchanged.

    Args:
        records: as read.
        table: whether they come from CSV or TSV, which have guarded cells.
    """
    for record in records:
        if WHY in record.cells:
            yield Record(record.number, record.line, _before(record.cells, table=table), record.broken)
        else:
            yield record


def _before(cells: Mapping[str, Json], *, table: bool) -> dict[str, Json]:
    kept = {name: cell for name, cell in cells.items() if name not in ADDED}
    return {name: unguarded(cell) for name, cell in kept.items()} if table else kept
