"""What a skeleton puts out, in order: stable text, and values that differ from call to call.

It is read off the source, includes followed. Of branches the longest counts. A value stays the
same for many calls where it is one of a few (a variable with choices, a boolean); all other
variables are taken to differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from jinja2 import nodes

from promptkit.templates import Part
from promptkit.templates.compiler import is_message, parse
from promptkit.types import Kind, Variable

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
    differing = {name for name, variable in part.source.spec.variables.items() if _differs(variable)}
    return tuple(_Reader(part, differing, inside=not part.has_messages).body(parse(part.source).body))


def _differs(variable: Variable) -> bool:
    return not (variable.choices or variable.kind is Kind.BOOLEAN)


@dataclass(slots=True)
class _Reader:
    """Reads one file. `differing` holds the names whose value differs, and grows with `set` and `for`."""

    part: Part
    differing: set[str]
    inside: bool

    def body(self, statements: Iterable[nodes.Node]) -> list[Piece]:
        return [piece for node in statements for piece in self._statement(node)]

    def _statement(self, node: nodes.Node) -> Iterable[Piece]:
        read = _READERS.get(type(node))
        return () if read is None else read(self, node)

    def assign(self, node: nodes.Assign) -> Iterable[Piece]:
        self._spread(node.node, node.target)
        return ()

    def capture(self, node: nodes.AssignBlock) -> Iterable[Piece]:
        if any(piece.variable for piece in replace(self, inside=True).body(node.body)):
            self._name(node.target)
        return ()

    def macro(self, node: nodes.Macro) -> Iterable[Piece]:
        if self._reads(node):
            self.differing.add(node.name)
        return ()

    def turns(self, node: nodes.ExprStmt) -> Iterable[Piece]:
        """A conversation that the caller brings: `{% messages history %}`."""
        name = self._reads(node.node)
        return [self._piece("", node.lineno, name)] if name else ()

    def with_(self, node: nodes.With) -> Iterable[Piece]:
        for target, value in zip(node.targets, node.values, strict=True):
            self._spread(value, target)
        return self.body(node.body)

    def block(self, node: nodes.CallBlock | nodes.FilterBlock) -> Iterable[Piece]:
        inside = self.inside or (isinstance(node, nodes.CallBlock) and is_message(node))
        return replace(self, inside=inside).body(node.body)

    def output(self, node: nodes.Output) -> Iterator[Piece]:
        if not self.inside:
            return
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                yield self._piece(child.data, child.lineno)
            elif isinstance(child, nodes.Const):
                yield self._piece(str(child.value), child.lineno)
            elif name := self._reads(child):
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
        name = self._spread(node.iter, node.target)
        pieces = self.body(node.body) * turns
        # How many turns there are differs, too: nothing below begins at the same place.
        return [self._piece("", node.lineno, name), *pieces] if name and pieces else pieces

    def include(self, node: nodes.Include) -> list[Piece]:
        name = node.template.value if isinstance(node.template, nodes.Const) else ""
        inner = self.part.includes[str(name)]
        return _Reader(inner, set(self.differing), self.inside).body(parse(inner.source).body)

    def _spread(self, value: nodes.Node, target: nodes.Node) -> str:
        """What a differing value is given to, differs; returns the name that it differs by."""
        name = self._reads(value)
        if name:
            self._name(target)
        return name

    def _name(self, target: nodes.Node) -> None:
        self.differing |= {name.name for name in _names(target)}

    def _reads(self, node: nodes.Node) -> str:
        """The first differing name that an expression reads."""
        return next((name.name for name in _names(node) if name.name in self.differing), "")


_READERS: Final[Mapping[type[nodes.Node], Callable[[_Reader, Any], Iterable[Piece]]]] = {
    nodes.Output: _Reader.output,
    nodes.If: _Reader.longest,
    nodes.For: _Reader.loop,
    nodes.Include: _Reader.include,
    nodes.Assign: _Reader.assign,
    nodes.AssignBlock: _Reader.capture,
    nodes.Macro: _Reader.macro,
    nodes.With: _Reader.with_,
    nodes.CallBlock: _Reader.block,
    nodes.FilterBlock: _Reader.block,
    nodes.ExprStmt: _Reader.turns,
}
"""How each kind of statement is read; others put nothing out."""


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    if isinstance(node, nodes.Name):
        yield node
    yield from node.find_all(nodes.Name)


def _length(pieces: list[Piece]) -> int:
    return sum(len(piece.text) for piece in pieces)
