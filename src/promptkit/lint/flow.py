"""What a skeleton puts out, in order: stable text, and values that differ from call to call.

It is read off the source, includes followed. Of branches the longest counts. What differs is
what `templates.stable` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import nodes

from promptkit.templates import Part
from promptkit.templates.compiler import is_message, parse
from promptkit.templates.stable import differing_names, reads

_UNKNOWN_TURNS: Final = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of output: stable text, or (where `variable` is set) what differs.

    `line` counts from the first of `file`.
    """

    text: str
    file: str
    line: int
    variable: str = ""


def flow_of(part: Part) -> tuple[Piece, ...]:
    """All that the messages of a skeleton hold, in order."""
    names = differing_names(part)
    return tuple(_Reader(part, names, inside=not part.has_messages).body(parse(part.source).body))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one file. `differing` holds the names whose value differs."""

    part: Part
    differing: frozenset[str]
    inside: bool

    def body(self, statements: Iterable[nodes.Node]) -> list[Piece]:
        return [piece for node in statements for piece in self._statement(node)]

    def _statement(self, node: nodes.Node) -> Iterable[Piece]:
        read = _READERS.get(type(node))
        return () if read is None else read(self, node)

    def turns(self, node: nodes.ExprStmt) -> Iterable[Piece]:
        """A conversation that the caller brings: `{% messages history %}`."""
        name = reads(node.node, self.differing)
        return [self._piece("", node.lineno, name)] if name else ()

    def with_(self, node: nodes.With) -> Iterable[Piece]:
        return self.body(node.body)

    def block(self, node: nodes.CallBlock | nodes.FilterBlock) -> Iterable[Piece]:
        inside = self.inside or (isinstance(node, nodes.CallBlock) and is_message(node))
        return _Reader(self.part, self.differing, inside).body(node.body)

    def output(self, node: nodes.Output) -> Iterator[Piece]:
        if not self.inside:
            return
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                yield self._piece(child.data, child.lineno)
            elif isinstance(child, nodes.Const):
                yield self._piece(str(child.value), child.lineno)
            elif name := reads(child, self.differing):
                yield self._piece("", child.lineno, name)

    def _piece(self, text: str, line: int, variable: str = "") -> Piece:
        return Piece(text, self.part.source.file, line + self.part.source.offset, variable)

    def longest(self, node: nodes.If) -> list[Piece]:
        branches = [node.body, *(branch.body for branch in node.elif_), node.else_]
        return max((self.body(branch) for branch in branches), key=_length)

    def loop(self, node: nodes.For) -> list[Piece]:
        turns = _UNKNOWN_TURNS
        if isinstance(node.iter, nodes.List | nodes.Tuple):
            turns = len(node.iter.items)
        name = reads(node.iter, self.differing)
        pieces = self.body(node.body) * turns
        # How many turns there are differs, too: nothing below begins at the same place.
        return [self._piece("", node.lineno, name), *pieces] if name and pieces else pieces

    def include(self, node: nodes.Include) -> list[Piece]:
        name = node.template.value if isinstance(node.template, nodes.Const) else ""
        inner = self.part.includes[str(name)]
        return _Reader(inner, self.differing, self.inside).body(parse(inner.source).body)


_READERS: Final[Mapping[type[nodes.Node], Callable[[_Reader, Any], Iterable[Piece]]]] = {
    nodes.Output: _Reader.output,
    nodes.If: _Reader.longest,
    nodes.For: _Reader.loop,
    nodes.Include: _Reader.include,
    nodes.With: _Reader.with_,
    nodes.CallBlock: _Reader.block,
    nodes.FilterBlock: _Reader.block,
    nodes.ExprStmt: _Reader.turns,
}
"""How each kind of statement is read; others put nothing out."""


def _length(pieces: list[Piece]) -> int:
    return sum(len(piece.text) for piece in pieces)
