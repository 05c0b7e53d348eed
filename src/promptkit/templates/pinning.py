"""Pinning includes: the names between the quotes are exchanged, every other character stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Final

from .places import places

_LINE_END: Final = re.compile(r"\r\n?")


def pin(text: str, body_start: int, pins: Mapping[str, str]) -> str:
    """A source with its includes renamed.

    Args:
        text: the whole source, with any line ends.
        body_start: where the body begins, counted with LF line ends.
        pins: each include as written, with what to write instead.
    """
    plain = _LINE_END.sub("\n", text)
    edits = [
        (body_start + start, body_start + end, pins[name])
        for start, end, name in _includes(plain[body_start:])
        if name in pins
    ]
    crlf = [found.start() for found in re.finditer(r"\r\n", text)]
    for start, end, name in reversed(edits):
        left, right = _original(start, crlf), _original(end, crlf)
        text = f'{text[:left]}"{name}"{text[right:]}'
    return text


def _original(position: int, crlf: list[int]) -> int:
    """Where a position of the LF text stands in the original: each CRLF before it is one longer."""
    return position + sum(1 for index, found in enumerate(crlf) if found - index < position)


def _includes(body: str) -> Iterator[tuple[int, int, str]]:
    """The place of each include's name, quotes included, and the name."""
    pieces = places(body)
    for piece in pieces:
        if piece.kind != "block_begin" or next(pieces).text != "include":
            continue
        inside = takewhile(lambda inner: inner.kind != "block_end", pieces)
        strings = [inner for inner in inside if inner.kind == "string"]
        # Jinja joins strings that stand side by side, as Python does.
        yield strings[0].start, strings[-1].end, "".join(_value(each.text) for each in strings)


def _value(literal: str) -> str:
    """What a string literal says, read as Jinja reads it."""
    return literal[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
