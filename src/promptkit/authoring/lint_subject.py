"""What lint finds, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, NamedTuple

from jinja2 import nodes

from promptkit.providers.prices import Prices
from promptkit.routing.catalog import Catalog
from promptkit.templates.jinja.compiler import is_message, parse
from promptkit.templates.jinja.syntax import Lexeme, lexemes_of
from promptkit.templates.names import NameUsage, check
from promptkit.templates.prefix import differing_names, reads
from promptkit.templates.source import Source
from promptkit.templates.template import Part, Template
from promptkit.types import Model, Provider, Route, Target, TemplateSpec


class Severity(StrEnum):
    """How bad a finding is: an error fails the run, a warning only with `--strict`."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Spot:
    """Something that a rule found: what, where, and what to do. `line` counts from the file's first."""

    what: str
    file: str
    line: int
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A spot with the rule that found it, and the template in which."""

    code: str
    rule: str
    severity: Severity
    what: str
    template: str
    file: str | None = None
    line: int | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """What templates are held against: the route they would take, what it costs, and when.

    `gone` are targets whose provider has said that the model is no more.
    """

    catalog: Catalog
    prices: Prices
    route: Route
    at: datetime
    gone: frozenset[Target] = field(default_factory=frozenset[Target])

    def pairs(self) -> list[tuple[Target, Provider, Model]]:
        """The targets of the route with what is known of them."""
        return [(target, *self.catalog.pair(target)) for target in self.route.targets]


class Subject:
    """One template under lint.

    Args:
        template: loaded, so that it compiles and all its includes are there.
    """

    def __init__(self, template: Template) -> None:
        self.template = template
        self.source: Source = template.part.source
        self.spec: TemplateSpec = template.spec

    @property
    def file(self) -> str:
        """The file, for messages."""
        return self.source.file

    @cached_property
    def uses(self) -> NameUsage:
        """Which variables it reads, where, and on which ways."""
        return check(self.template)

    @cached_property
    def lexemes(self) -> list[Lexeme]:
        """Its own tokens."""
        return lexemes_of(self.source)

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """The text inside its own messages; all of it, in a partial."""
        return tuple(_texts(self.lexemes, inside=self.template.is_partial))

    @cached_property
    def flow(self) -> tuple[Piece, ...]:
        """What it puts out, in order."""
        return flow_of(self.template.part)

    def line(self, body_line: int) -> int:
        """A line of the file, from one of the body."""
        return body_line + self.source.offset

    def key_line(self, *path: str) -> int:
        """Return the line of a key of the front matter, or of its nearest table; 1 if there is none."""
        return self.source.key_line(*path)


Check = Callable[[Subject, World], Iterable[Spot]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its code, its name, how bad it is, and what it looks for, in a sentence.

    A rule without `check` tells what loading found, or what is wrong with a switch: it can't be
    switched off.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    check: Check | None = None


ERROR: Final = Severity.ERROR


WARNING: Final = Severity.WARNING


class Text(NamedTuple):
    """A stretch of text in a message, and whether it begins and ends the message: there, blanks are stripped."""

    token: Lexeme
    first: bool
    last: bool


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
    """All that the messages of a template hold, in order."""
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
