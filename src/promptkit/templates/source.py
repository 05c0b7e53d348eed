"""A template file: TOML front matter between `+++` lines, then Jinja."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from promptkit import toml
from promptkit.errors import TemplateError
from promptkit.types import TemplateSpec

from .digests import normalise
from .frontmatter import read_spec

FENCE: Final = "+++"
MAX_SOURCE_BYTES: Final = 1_000_000

_FENCE = re.compile(r"^\+\+\+[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """A template file, read.

    `text` is the whole file with LF line ends, `body` what stands behind the front matter and
    `offset` how many lines come before it. `file` is only for messages.
    """

    file: str
    text: str
    body: str
    offset: int
    spec: TemplateSpec


def read_source(raw: bytes | str, *, file: str) -> Source:
    """Read a template file.

    Args:
        raw: its content; bytes are UTF-8, with or without a byte order mark.
        file: its name, for messages.

    Raises:
        TemplateError: too large, not UTF-8, or its front matter is broken.
    """
    text = normalise(_decode(raw, file))
    head, body, offset = _split(text, file)
    spec = TemplateSpec() if head is None else read_spec(_table(head, file))
    return Source(file, text, body, offset, spec)


def _table(head: str, file: str) -> toml.Table:
    return toml.parse(head, file=file, error=TemplateError, line_offset=1)


def _decode(raw: bytes | str, file: str) -> str:
    if len(raw) > MAX_SOURCE_BYTES:
        raise TemplateError(
            f"a template of {len(raw):,} bytes; at most {MAX_SOURCE_BYTES:,} are read",
            file=file,
            remedy="Move data into variables and shared text into includes.",
        )
    if isinstance(raw, str):
        return raw.removeprefix("\ufeff")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise TemplateError(
            f"not UTF-8: byte {cause.object[cause.start]:#04x}",
            file=file,
            line=cause.object[: cause.start].count(b"\n") + 1,
            remedy="Save the file as UTF-8.",
        ) from None


def _split(text: str, file: str) -> tuple[str | None, str, int]:
    """The front matter, the body and the number of lines before the body."""
    opening = _FENCE.match(text)
    if opening is None:
        return None, text, 0
    closing = _FENCE.search(text, opening.end())
    if closing is None:
        raise TemplateError(
            "the front matter has no end",
            file=file,
            line=1,
            remedy=f"Close it with a line {FENCE}.",
        )
    head = text[opening.end() + 1 : closing.start()]
    return head, text[closing.end() + 1 :], text.count("\n", 0, closing.end()) + 1
