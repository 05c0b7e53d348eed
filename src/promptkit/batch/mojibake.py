"""Text that was encoded twice: `Ã©` where `é` was meant."""

from __future__ import annotations

import re
from typing import Final

from .lines import Record

# What UTF-8's bytes look like when read as cp1252, for the leads seen in Western text and emoji.
_CONTINUATION: Final = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
)
_RUN: Final = re.compile(f"(?:[ÂÃÅâð][{_CONTINUATION}]+)+")


def repaired(text: str) -> str | None:
    """The text as it was meant, where a part of it was encoded twice; else None."""
    if text.isascii():
        return None
    fixed = _RUN.sub(_decode_run, text)
    return None if fixed == text else fixed


def garbled_columns(record: Record) -> tuple[tuple[str, str], ...]:
    """Columns of a row whose text looks encoded twice, each with what was probably meant."""
    found: list[tuple[str, str]] = []
    for column, cell in record.cells.items():
        meant = repaired(cell) if isinstance(cell, str) else None
        if meant is not None:
            found.append((column, meant))
    return tuple(found)


def _decode_run(run: re.Match[str]) -> str:
    try:
        return b"".join(map(_byte, run[0])).decode()
    except ValueError:
        return run[0]


def _byte(char: str) -> bytes:
    # cp1252 leaves five bytes undefined; readers pass them on as they are.
    return bytes([ord(char)]) if ord(char) < 0x100 else char.encode("cp1252")  # noqa: PLR2004 - one byte
