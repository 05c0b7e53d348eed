"""Where the tokens of a body stand, to the character; for those who change or quote a source."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from jinja2 import Environment


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
    for _, kind, text in _environment().lex(body):
        start = body.index(text, position)
        position = start + len(text)
        if kind != "whitespace":
            yield Token(start, position, kind, text)


@cache
def _environment() -> Environment:
    """Jinja's own settings: those of skeletons strip lines, and a place must not move."""
    return Environment(keep_trailing_newline=True)  # noqa: S701 - it only cuts text
