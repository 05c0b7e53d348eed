"""What lint rules see: a template's source and output, and the route that its calls take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from jinja2 import nodes

from promptkit.providers.prices import Prices
from promptkit.routing.catalog import Catalog
from promptkit.templates.jinja.compiler import is_message, parse
from promptkit.templates.jinja.syntax import Lexeme, lexemes_of
from promptkit.templates.names import NameUsage, check
from promptkit.templates.prefix import differing_names, reads
from promptkit.templates.template import Part, Template
from promptkit.types import Model, Provider, Route, Target


@dataclass(frozen=True, slots=True)
class Violation:
    """A place where a template breaks a rule, and how to repair it. `line` counts from the file's first."""

    message: str
    file: str
    line: int
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class LintContext:
    """The route that a template's calls take, the prices of its targets, and the time.

    `gone` are targets whose provider reported that the model no longer exists.
    """

    catalog: Catalog
    prices: Prices
    route: Route
    at: datetime
    gone: frozenset[Target] = field(default_factory=frozenset[Target])

    def targets(self) -> list[tuple[Target, Provider, Model]]:
        """Return the targets of the route with their provider and model."""
        return [(target, *self.catalog.pair(target)) for target in self.route.targets]


class LintedTemplate:
    """A template with the views of it that rules read, each computed once.

    Args:
        template: a loaded template, so it compiles and all its includes exist.
    """

    def __init__(self, template: Template) -> None:
        self.template = template
        self.source = template.part.source
        self.spec = template.spec
        self.file = self.source.file

    @cached_property
    def names(self) -> NameUsage:
        """The variables that it reads, and where."""
        return check(self.template)

    @cached_property
    def lexemes(self) -> list[Lexeme]:
        """The tokens of its own source."""
        return lexemes_of(self.source)

    @cached_property
    def texts(self) -> tuple[MessageText, ...]:
        """The text inside its own messages; all of it, in a partial."""
        return tuple(_message_texts(self.lexemes, inside=self.template.is_partial))

    @cached_property
    def output(self) -> tuple[OutputPiece, ...]:
        """What its messages contain, includes and all, in order."""
        part = self.template.part
        reader = _OutputReader(part, differing_names(part), inside=not part.has_messages)
        return tuple(reader.body(parse(part.source).body))

    def line(self, body_line: int) -> int:
        """Return the line of the file for a line of the body."""
        return body_line + self.source.offset

    def key_line(self, *path: str) -> int:
        """Return the line of a key of the front matter, or of its nearest table; 1 if there is none."""
        return self.source.key_line(*path)


class MessageText(NamedTuple):
    """A stretch of text in a message.

    `first` and `last` tell whether it begins and ends the message, where blanks are stripped.
    """

    token: Lexeme
    first: bool
    last: bool


def _message_texts(lexemes: list[Lexeme], *, inside: bool) -> Iterator[MessageText]:
    tokens = [token for token in lexemes if token.kind != "whitespace"]
    at_begin = False
    for index, token in enumerate(tokens):
        name = tokens[index + 1].text if token.kind == "block_begin" and index + 1 < len(tokens) else ""
        if name in ("message", "endmessage"):
            inside, at_begin = name == "message", name == "message"
        elif token.kind == "data":
            if inside:
                following = [other.text for other in tokens[index + 1 : index + 3]]
                yield MessageText(token, at_begin, following[1:] == ["endmessage"])
            at_begin = False
        elif token.kind == "variable_begin":
            at_begin = False


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """A stretch of output: stable text or, if `variable` is set, a value that differs between calls.

    `line` counts from the first of `file`.
    """

    text: str
    file: str
    line: int
    variable: str = ""


@dataclass(frozen=True, slots=True)
class _OutputReader:
    """A reader of one file. `differing` are the names whose value differs between calls."""

    part: Part
    differing: frozenset[str]
    inside: bool

    def body(self, statements: Iterable[nodes.Node]) -> list[OutputPiece]:
        return [piece for node in statements for piece in self._statement(node)]

    def _statement(self, node: nodes.Node) -> Iterable[OutputPiece]:
        read = _STATEMENT_READERS.get(type(node))
        return () if read is None else read(self, node)

    def output(self, node: nodes.Output) -> Iterator[OutputPiece]:
        if not self.inside:
            return
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                yield self._piece(child.data, child.lineno)
            elif isinstance(child, nodes.Const):
                yield self._piece(str(child.value), child.lineno)
            elif name := reads(child, self.differing):
                yield self._piece("", child.lineno, name)

    def longest_branch(self, node: nodes.If) -> list[OutputPiece]:
        branches = [node.body, *(branch.body for branch in node.elif_), node.else_]
        return max(map(self.body, branches), key=lambda pieces: sum(len(piece.text) for piece in pieces))

    def loop(self, node: nodes.For) -> list[OutputPiece]:
        # A loop over a literal repeats its text; how often any other one does is unknown, so it counts once.
        count = len(node.iter.items) if isinstance(node.iter, nodes.List | nodes.Tuple) else 1
        name = reads(node.iter, self.differing)
        pieces = self.body(node.body) * count
        # The number of repetitions differs too: nothing below the loop begins at the same position.
        return [self._piece("", node.lineno, name), *pieces] if name and pieces else pieces

    def include(self, node: nodes.Include) -> list[OutputPiece]:
        name = node.template.value if isinstance(node.template, nodes.Const) else ""
        included = self.part.includes[str(name)]
        return _OutputReader(included, self.differing, self.inside).body(parse(included.source).body)

    def with_(self, node: nodes.With) -> Iterable[OutputPiece]:
        return self.body(node.body)

    def block(self, node: nodes.CallBlock | nodes.FilterBlock) -> Iterable[OutputPiece]:
        inside = self.inside or (isinstance(node, nodes.CallBlock) and is_message(node))
        return _OutputReader(self.part, self.differing, inside).body(node.body)

    def conversation(self, node: nodes.ExprStmt) -> Iterable[OutputPiece]:
        """Read `{% messages history %}`, the caller's own messages."""
        name = reads(node.node, self.differing)
        return [self._piece("", node.lineno, name)] if name else ()

    def _piece(self, text: str, line: int, variable: str = "") -> OutputPiece:
        return OutputPiece(text, self.part.source.file, line + self.part.source.offset, variable)


_STATEMENT_READERS: Mapping[type[nodes.Node], Callable[[_OutputReader, Any], Iterable[OutputPiece]]] = {
    nodes.Output: _OutputReader.output,
    nodes.If: _OutputReader.longest_branch,
    nodes.For: _OutputReader.loop,
    nodes.Include: _OutputReader.include,
    nodes.With: _OutputReader.with_,
    nodes.CallBlock: _OutputReader.block,
    nodes.FilterBlock: _OutputReader.block,
    nodes.ExprStmt: _OutputReader.conversation,
}
"""The reader of each kind of statement; other kinds put nothing out."""
