"""Rows in, rows out: reading tables, naming rows, writing results. No file is opened here.

The way of a row: `read_rows` -> `Binding.variables` -> the skeleton's own `bind` -> `Namer.row`
-> calls -> `Layout.record` -> `Writer.row`.
"""

from .binding import Binding, Wishes, cell_text, constant_tags
from .dialect import Dialect, Format, format_of, manner, sniff
from .keys import Namer, Ordinals, content_digest, row_key
from .lines import Record
from .matrix import Matrix
from .mojibake import garbled_columns, repaired
from .output import (
    Layout,
    Writer,
    call_column,
    check_text_as,
    excel_like,
    layout,
    neutral,
    output_format,
    usd_text,
    writer,
)
from .reading import MAX_ROW_CHARS, Rows, read_rows

__all__ = [
    "MAX_ROW_CHARS",
    "Binding",
    "Dialect",
    "Format",
    "Layout",
    "Matrix",
    "Namer",
    "Ordinals",
    "Record",
    "Rows",
    "Wishes",
    "Writer",
    "call_column",
    "cell_text",
    "check_text_as",
    "constant_tags",
    "content_digest",
    "excel_like",
    "format_of",
    "garbled_columns",
    "layout",
    "manner",
    "neutral",
    "output_format",
    "read_rows",
    "repaired",
    "row_key",
    "sniff",
    "usd_text",
    "writer",
]
