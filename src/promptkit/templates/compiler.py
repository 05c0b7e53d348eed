"""From the body of a source to code: what it includes and reads is surveyed, what could grow is guarded."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import CodeType
from typing import Final, NoReturn

from jinja2 import TemplateSyntaxError, nodes

from promptkit.errors import TemplateError

from .environment import SkeletonEnvironment
from .epoch import EPOCH
from .filters import FILTERS, TESTS
from .guards import guard
from .paths import Path, path_of
from .source import Source

_REFUSED: Final[Mapping[type[nodes.Node], str]] = {
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Import: "import",
    nodes.FromImport: "from ... import",
    nodes.ScopedEvalContextModifier: "autoescape",
}
_HIDDEN: Final = frozenset({"self", "super", "varargs", "kwargs"})


@dataclass(frozen=True, slots=True)
class Compiled:
    """The code of a body and what was learned from it. Lines count from the body's first.

    `key` depends on the body and the epoch alone; what an include means is settled when a
    skeleton is put together. `loads` are the names that it reads, with the line; `stores` those
    that it sets anywhere; `paths` are the ways into variables that it writes out.
    """

    key: str
    code: CodeType
    includes: Mapping[str, int] = field(default_factory=dict[str, int])
    has_messages: bool = False
    loads: Mapping[str, int] = field(default_factory=dict[str, int])
    stores: frozenset[str] = frozenset()
    paths: Mapping[Path, int] = field(default_factory=dict[Path, int])


def fresh(source: Source) -> nodes.Template:
    """The same tree, made anew: to be changed and compiled."""
    return _environment().parse(source.body)


def compile_tree(tree: nodes.Template, name: str) -> CodeType:
    """Compile a tree made of sources that compile; what could grow is guarded, as in any other."""
    guard(tree)
    tree.set_environment(_environment())
    return _environment().compile(tree, name, f"<{name}>")


def body_key(source: Source) -> str:
    """The name under which a body's code is kept."""
    return hashlib.sha256(f"{EPOCH}\n{source.body}".encode()).hexdigest()


@cache
def _environment() -> SkeletonEnvironment:
    return SkeletonEnvironment()


def parse(source: Source) -> nodes.Template:
    """The syntax tree of a source that compiles, as it was written: to be read, not to be changed."""
    return _tree(source.body)


@lru_cache(maxsize=64)
def _tree(body: str) -> nodes.Template:
    # Several readers walk a tree, and many skeletons include the same partials.
    return _environment().parse(body)


def compile_source(source: Source) -> Compiled:
    """Compile the body of a source.

    Raises:
        TemplateError: it isn't valid Jinja, or uses what isn't available, with file and line.
    """
    environment = _environment()
    key = body_key(source)
    try:
        tree = environment.parse(source.body)
        survey = _Survey(source)
        survey.walk(tree)
        guard(tree)
        tree.set_environment(environment)
        code = environment.compile(tree, key, f"<{key[:12]}>")
    except TemplateSyntaxError as cause:
        raise TemplateError(
            f"not a valid template: {cause.message}",
            file=source.file,
            line=cause.lineno + source.offset,
            remedy="Fix the Jinja tag or expression there.",
        ) from None
    except (RecursionError, MemoryError, OverflowError, SyntaxError, ValueError) as cause:
        # Python's own compiler refuses 20 loops in one another, or a number of 5,000 digits.
        raise TemplateError(
            f"too complex to compile: {cause}",
            file=source.file,
            remedy="Nest fewer loops and brackets, or split it with includes.",
        ) from None
    return Compiled(
        key, code, survey.includes, survey.has_messages, survey.loads, frozenset(survey.stores), survey.paths
    )


class _Survey:
    """One walk over a tree: what it includes, reads and sets, and whether all of it is available."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.includes: dict[str, int] = {}
        self.has_messages = False
        self.loads: dict[str, int] = {}
        self.stores: set[str] = set()
        self.paths: dict[Path, int] = {}
        self.stray: int | None = None

    def walk(self, tree: nodes.Template) -> None:
        """Survey the whole tree."""
        for child in tree.body:
            self._statement(child, captured=False)
        if self.has_messages and self.stray is not None:
            self.fail(
                "text outside a message",
                self.stray,
                'Put it between {% message "user" %} and {% endmessage %}, or in a comment {# #}.',
            )

    def fail(self, what: str, line: int, remedy: str) -> NoReturn:
        """Refuse, at a line of the body."""
        raise TemplateError(what, file=self.source.file, line=line + self.source.offset, remedy=remedy)

    def _statement(self, node: nodes.Node, *, captured: bool) -> None:
        self._check(node, captured=captured)
        inside = captured or isinstance(
            node, (nodes.CallBlock, nodes.Macro, nodes.AssignBlock, nodes.FilterBlock)
        )
        for child in node.iter_child_nodes():
            self._statement(child, captured=inside)

    def _check(self, node: nodes.Node, *, captured: bool) -> None:  # noqa: C901 - one row a kind of node
        match node:
            case nodes.Name():
                self._name(node)
            case nodes.NSRef():
                self.loads.setdefault(node.name, node.lineno)
            case nodes.Macro():
                self.stores.add(node.name)
            case nodes.TemplateData():
                self._data(node, captured=captured)
            case nodes.Include():
                self._include(node)
            case nodes.Call(node=nodes.ExtensionAttribute()):
                self.has_messages = True
            case nodes.Getattr() | nodes.Getitem():
                self._dotted(node)
            case nodes.Filter():
                self._known("filter", node.name, FILTERS, node.lineno)
            case nodes.Test():
                self._known("test", node.name, TESTS, node.lineno)
            case _ if type(node) in _REFUSED:
                self.fail(
                    f"{{% {_REFUSED[type(node)]} %}} isn't available",
                    node.lineno,
                    'Use {% include "name@1" %}.',
                )
            case _:
                pass

    def _name(self, node: nodes.Name) -> None:
        if node.name in _HIDDEN:
            self.fail(f"the name {node.name} isn't available", node.lineno, "Choose another name.")
        if node.ctx == "load":
            self.loads.setdefault(node.name, node.lineno)
        else:
            self.stores.add(node.name)

    def _dotted(self, node: nodes.Node) -> None:
        path = path_of(node)
        if path is not None:
            self.paths.setdefault(path, node.lineno)

    def _data(self, node: nodes.TemplateData, *, captured: bool) -> None:
        text = node.data.lstrip()
        if text and not captured and self.stray is None:
            self.stray = node.lineno + node.data[: len(node.data) - len(text)].count("\n")

    def _include(self, node: nodes.Include) -> None:
        target = node.template
        if not isinstance(target, nodes.Const) or not isinstance(target.value, str):
            self.fail(
                "an include must name its template as a plain text",
                node.lineno,
                'E.g. {% include "shared/voice@2" %}.',
            )
        if node.ignore_missing or not node.with_context:
            self.fail(
                "an include takes neither 'ignore missing' nor 'without context'",
                node.lineno,
                "Leave the words out.",
            )
        self.includes.setdefault(target.value, node.lineno)

    def _known(self, what: str, name: str, known: Iterable[str], line: int) -> None:
        if name in known:
            return
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(sorted(known))}."
        self.fail(f"no {what} named {name!r}", line, hint)


def is_message(node: nodes.CallBlock) -> bool:
    """Whether a call block is a message tag."""
    return isinstance(node.call.node, nodes.ExtensionAttribute)
