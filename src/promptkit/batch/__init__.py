"""Rows in, rows out: reading tables, naming rows, writing results. No file is opened here.

The way of a row: `read_rows` -> `Binding.variables` -> the skeleton's own `bind` -> `Namer.row`
-> calls -> `Layout.record` -> `Writer.row`, counted by `Tally`.
"""

from .binding import Binding, Wishes, constant_tags
from .dialect import Dialect, Format, format_of, sniff
from .keys import Generation, Namer, Ordinals, content_digest, generation, row_key
from .lines import Record
from .mojibake import garbled_columns, repaired
from .output import Layout, Writer, excel_like, layout, neutral, output_format, usd_text, writer
from .reading import MAX_ROW_CHARS, Rows, read_rows
from .tally import Tally

__all__ = [
    "MAX_ROW_CHARS",
    "Binding",
    "Dialect",
    "Format",
    "Generation",
    "Layout",
    "Namer",
    "Ordinals",
    "Record",
    "Rows",
    "Tally",
    "Wishes",
    "Writer",
    "constant_tags",
    "content_digest",
    "excel_like",
    "format_of",
    "garbled_columns",
    "generation",
    "layout",
    "neutral",
    "output_format",
    "read_rows",
    "repaired",
    "row_key",
    "sniff",
    "usd_text",
    "writer",
]
