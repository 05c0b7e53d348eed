"""The tokens of a template's body, for lint, diff and the pinning of includes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from jinja2 import Environment

from promptkit.templates.source import Source

from .compiler import TemplateEnvironment


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
    """Return the tokens of a source that compiles."""
    return [Lexeme(*token) for token in _environment().lex(source.body)]


class Token(NamedTuple):
    """A token as Jinja's lexer cuts it: `body[start:end]` is its text."""

    start: int
    end: int
    kind: str
    text: str


def tokens_of(body: str) -> Iterator[Token]:
    """Return the tokens of a body that compiles, with their positions; white space inside tags is left out.

    `{%-` makes the lexer drop the white space before it, so each token is sought from the end of
    the one before: nothing but white space can lie between.
    """
    position = 0
    for _, kind, text in _unstripped_environment().lex(body):
        start = body.index(text, position)
        position = start + len(text)
        if kind != "whitespace":
            yield Token(start, position, kind, text)


@cache
def _unstripped_environment() -> Environment:
    """Return an environment with Jinja's own settings: those of templates strip lines and would move positions."""
    return Environment(keep_trailing_newline=True)  # noqa: S701 - it only cuts text


_LINE_END = re.compile(r"\r\n?")


def pin(text: str, body_start: int, pins: Mapping[str, str]) -> str:
    """Rename the includes of a source.

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
    crlf = [match.start() for match in re.finditer(r"\r\n", text)]
    for start, end, name in reversed(edits):
        left, right = _original(start, crlf), _original(end, crlf)
        text = f'{text[:left]}"{name}"{text[right:]}'
    return text


def _original(position: int, crlf: list[int]) -> int:
    """Return the position in the original of a position in the LF text: each CRLF before it adds one."""
    return position + sum(1 for index, offset in enumerate(crlf) if offset - index < position)


def _includes(body: str) -> Iterator[tuple[int, int, str]]:
    """Yield the position of each include's name, quotes included, and the name."""
    pieces = tokens_of(body)
    for piece in pieces:
        if piece.kind != "block_begin" or next(pieces).text != "include":
            continue
        inside = takewhile(lambda inner: inner.kind != "block_end", pieces)
        strings = [inner for inner in inside if inner.kind == "string"]
        # Jinja joins adjacent strings, as Python does.
        yield strings[0].start, strings[-1].end, "".join(_value(each.text) for each in strings)


def _value(literal: str) -> str:
    """Read a string literal as Jinja reads it."""
    return literal[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
