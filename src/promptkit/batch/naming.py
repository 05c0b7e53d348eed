"""One file a row: names made of a pattern like `out/{sku}-{angle}.txt` and the cells of each row.

A cell is part of a name and never more: it can't leave its folder, hide a file, read like an option or begin
another folder, whatever stands in it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from promptkit.errors import UsageError
from promptkit.types import Json

from .binding import cell_text

NUMBER: Final = "number"
"""The row's own number, from 1, where no column has that name."""

_FIELD: Final = re.compile(r"\{([^{}]+)\}")
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*]+')
_LONGEST: Final = 240
"""Bytes of a name: file systems take 255, and the temporary file beside it is longer by some."""


def is_pattern(out: str) -> bool:
    """Whether an output is one file a row: a column stands in braces."""
    return _FIELD.search(out) is not None


def check_pattern(pattern: str, columns: Sequence[str]) -> None:
    """Make sure that all columns of a pattern are there.

    Raises:
        UsageError: one isn't, or the name of a file has none of them.
    """
    for name in _FIELD.findall(pattern):
        if name not in columns and name != NUMBER:
            raise UsageError(
                f"-o {pattern!r}: no column {name!r}", remedy=f"columns: {', '.join((*columns, NUMBER))}"
            )


def piece_name(pattern: str, cells: Mapping[str, Json], number: int) -> str:
    """The path of a row's file.

    Args:
        pattern: with columns in braces.
        cells: the row's.
        number: the row's, from 1.
    """

    def fill(field: re.Match[str]) -> str:
        name = field[1]
        return _safe(str(number) if name == NUMBER and name not in cells else cell_text(cells.get(name)))

    return "/".join(_short(part) for part in _FIELD.sub(fill, pattern).split("/"))


def name_digest(path: str) -> str:
    """What two paths share (hex) that are one file somewhere: on disks that fold case or accents."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


def _safe(text: str) -> str:
    plain = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    return _UNSAFE.sub("-", plain.strip()).lstrip("-. ").rstrip(". ") or "_"


def _short(name: str) -> str:
    """A name that a file system takes: its middle cut, its ending kept, and told from others by a digest."""
    if len(name.encode()) <= _LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    ending = f"{dot}{suffix}" if stem and len(suffix) <= 10 else ""  # noqa: PLR2004 - an extension, no sentence
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: _LONGEST - len(ending.encode()) - 9].decode(errors="ignore")
    return f"{kept}-{mark}{ending}"
