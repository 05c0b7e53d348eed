"""A skeleton as lint reads it: its tree, tokens and flow, each made once and only if a rule asks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from promptkit import toml
from promptkit.errors import TemplateError
from promptkit.templates import Lexeme, Skeleton, Source, lexemes_of
from promptkit.templates.check import Findings as Uses
from promptkit.templates.check import check
from promptkit.types import TemplateSpec

from .flow import Piece, flow_of


class Text(NamedTuple):
    """A stretch of text in a message, and whether it begins and ends the message: there, blanks are stripped."""

    token: Lexeme
    first: bool
    last: bool


class Subject:
    """One skeleton under lint.

    Args:
        skeleton: loaded, so that it compiles and all its includes are there.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.source: Source = skeleton.part.source
        self.spec: TemplateSpec = skeleton.spec

    @property
    def file(self) -> str:
        """The file, for messages."""
        return self.source.file

    @cached_property
    def uses(self) -> Uses:
        """Which variables it reads, where, and on which ways."""
        return check(self.skeleton)

    @cached_property
    def lexemes(self) -> list[Lexeme]:
        """Its own tokens."""
        return lexemes_of(self.source)

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """The text inside its own messages; all of it, in a partial."""
        return tuple(_texts(self.lexemes, inside=self.skeleton.is_partial))

    @cached_property
    def flow(self) -> tuple[Piece, ...]:
        """What it puts out, in order."""
        return flow_of(self.skeleton.part)

    def line(self, body_line: int) -> int:
        """A line of the file, from one of the body."""
        return body_line + self.source.offset

    @cached_property
    def _front_matter(self) -> toml.Table:
        lines = self.source.text.split("\n")[1 : max(1, self.source.offset - 1)]
        return toml.parse("\n".join(lines), file=self.file, error=TemplateError, line_offset=1)

    def key_line(self, *path: str) -> int:
        """The line of a key of the front matter, or of its nearest table; 1 where there is none."""
        table = self._front_matter
        for name in path[:-1]:
            table = table.table(name)
        return table.fail("", path[-1]).line or 1


def _texts(lexemes: list[Lexeme], *, inside: bool) -> Iterator[Text]:
    tokens = [token for token in lexemes if token.kind != "whitespace"]
    edge = False
    for index, token in enumerate(tokens):
        name = tokens[index + 1].text if token.kind == "block_begin" and index + 1 < len(tokens) else ""
        if name in ("message", "endmessage"):
            inside, edge = name == "message", name == "message"
        elif token.kind == "data":
            if inside:
                following = [one.text for one in tokens[index + 1 : index + 3]]
                yield Text(token, edge, following[1:] == ["endmessage"])
            edge = False
        elif token.kind == "variable_begin":
            edge = False
