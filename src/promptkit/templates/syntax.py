"""A body as tokens, for those who read templates instead of rendering them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from .environment import SkeletonEnvironment
from .source import Source


class Lexeme(NamedTuple):
    """A token as Jinja's lexer cuts it: the line counts from the body's first.

    `data` is text as it will be put out; a `block_end` holds the newline that it swallows.
    """

    line: int
    kind: str
    text: str


@cache
def _environment() -> SkeletonEnvironment:
    return SkeletonEnvironment()


def lexemes_of(source: Source) -> list[Lexeme]:
    """The tokens of a source that compiles."""
    return [Lexeme(*token) for token in _environment().lex(source.body)]
