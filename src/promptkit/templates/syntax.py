"""A body as tokens, for those who read templates instead of rendering them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import takewhile
from typing import Final, NamedTuple

from jinja2 import Environment

from .compiler import TemplateEnvironment
from .source import Source


class Lexeme(NamedTuple):
    """A token as Jinja's lexer cuts it: the line counts from the body's first.

    `data` is text as it will be put out; a `block_end` holds the newline that it swallows.
    """

    line: int
    kind: str
    text: str


@cache
def _environment() -> TemplateEnvironment:
    return TemplateEnvironment()


def lexemes_of(source: Source) -> list[Lexeme]:
    """The tokens of a source that compiles."""
    return [Lexeme(*token) for token in _environment().lex(source.body)]


class Token(NamedTuple):
    """A token as Jinja's lexer cuts it: `body[start:end]` is its text."""

    start: int
    end: int
    kind: str
    text: str


def places(body: str) -> Iterator[Token]:
    """The tokens of a body that compiles, with their places; white space inside tags is left out.

    `{%-` makes the lexer drop the white space before it, so each token is sought from the end of
    the one before: nothing but white space can lie between.
    """
    position = 0
    for _, kind, text in _places_environment().lex(body):
        start = body.index(text, position)
        position = start + len(text)
        if kind != "whitespace":
            yield Token(start, position, kind, text)


@cache
def _places_environment() -> Environment:
    """Jinja's own settings: those of templates strip lines, and a place must not move."""
    return Environment(keep_trailing_newline=True)  # noqa: S701 - it only cuts text


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
