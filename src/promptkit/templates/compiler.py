"""From the body of a source to code: what it includes and reads is surveyed, what could grow is guarded."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import CodeType
from typing import Any, Final, NoReturn

from jinja2 import TemplateSyntaxError, nodes
from jinja2.visitor import NodeTransformer

from promptkit.errors import TemplateError

from .environment import SkeletonEnvironment
from .epoch import EPOCH
from .filters import CONCAT, FILTERS, KEEP, LOOP, SCAN, SLICE, STEP, TESTS
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
    that it sets anywhere.
    """

    key: str
    code: CodeType
    includes: Mapping[str, int] = field(default_factory=dict[str, int])
    has_messages: bool = False
    loads: Mapping[str, int] = field(default_factory=dict[str, int])
    stores: frozenset[str] = frozenset()


def body_key(source: Source) -> str:
    """The name under which a body's code is kept."""
    return hashlib.sha256(f"{EPOCH}\n{source.body}".encode()).hexdigest()


@cache
def _environment() -> SkeletonEnvironment:
    return SkeletonEnvironment()


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
        _Guard().visit(tree)
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
        key, code, survey.includes, survey.has_messages, survey.loads, frozenset(survey.stores)
    )


class _Survey:
    """One walk over a tree: what it includes, reads and sets, and whether all of it is available."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.includes: dict[str, int] = {}
        self.has_messages = False
        self.loads: dict[str, int] = {}
        self.stores: set[str] = set()
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
        inside = captured or isinstance(node, (nodes.CallBlock, nodes.Macro, nodes.AssignBlock, nodes.FilterBlock))
        for child in node.iter_child_nodes():
            self._statement(child, captured=inside)

    def _check(self, node: nodes.Node, *, captured: bool) -> None:
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
            case nodes.CallBlock() if _is_message(node):
                self.has_messages = True
            case nodes.Filter():
                self._known("filter", node.name, FILTERS, node.lineno)
            case nodes.Test():
                self._known("test", node.name, TESTS, node.lineno)
            case _ if type(node) in _REFUSED:
                self.fail(f"{{% {_REFUSED[type(node)]} %}} isn't available", node.lineno, 'Use {% include "name@1" %}.')
            case _:
                pass

    def _name(self, node: nodes.Name) -> None:
        if node.name in _HIDDEN:
            self.fail(f"the name {node.name} isn't available", node.lineno, "Choose another name.")
        if node.ctx == "load":
            self.loads.setdefault(node.name, node.lineno)
        else:
            self.stores.add(node.name)

    def _data(self, node: nodes.TemplateData, *, captured: bool) -> None:
        text = node.data.lstrip()
        if text and not captured and self.stray is None:
            self.stray = node.lineno + node.data[: len(node.data) - len(text)].count("\n")

    def _include(self, node: nodes.Include) -> None:
        target = node.template
        if not isinstance(target, nodes.Const) or not isinstance(target.value, str):
            self.fail(
                "an include must name its template as a plain text", node.lineno, 'E.g. {% include "shared/voice@2" %}.'
            )
        if node.ignore_missing or not node.with_context:
            self.fail(
                "an include takes neither 'ignore missing' nor 'without context'", node.lineno, "Leave the words out."
            )
        self.includes.setdefault(target.value, node.lineno)

    def _known(self, what: str, name: str, known: Iterable[str], line: int) -> None:
        if name in known:
            return
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(sorted(known))}."
        self.fail(f"no {what} named {name!r}", line, hint)


def _is_message(node: nodes.CallBlock) -> bool:
    return isinstance(node.call.node, nodes.ExtensionAttribute)


class _Guard(NodeTransformer):
    """Writes counting into the tree: per loop, macro and file, not per iteration."""

    def visit_Template(self, node: nodes.Template) -> nodes.Node:
        node.body.insert(0, _charge(_weight(node.body)))
        return self.generic_visit(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        node.body.insert(0, _charge(_weight(node.body)))
        return self.generic_visit(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        node.body.insert(0, _charge(_weight(node.body)))
        return self.generic_visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        weight = 1 + _weight([*node.body, *([node.test] if node.test else [])])
        self.generic_visit(node)
        node.iter = _guard(node.iter, LOOP, nodes.Const(weight, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _guard(node.nodes[0], CONCAT, *node.nodes[1:])

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        cuts = (node.arg.start, node.arg.stop, node.arg.step)
        return _guard(node.node, SLICE, *(cut or nodes.Const(None, lineno=node.lineno) for cut in cuts))

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.expr, nodes.Const):
            node.expr = _guard(node.expr, SCAN)
        return node

    def _container(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _guard(node, KEEP)

    visit_List = visit_Dict = _container

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _guard(node, KEEP) if node.ctx == "load" else node


def _guard(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _charge(weight: int) -> nodes.Node:
    return nodes.ExprStmt(_guard(nodes.Const(weight, lineno=1), STEP), lineno=1)


def _weight(body: Iterable[nodes.Node]) -> int:
    """How many nodes one evaluation of a body touches, but for bodies that count for themselves."""
    return sum(1 for _ in _touched(body))


def _touched(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    pending: list[Any] = list(body)
    while pending:
        node = pending.pop()
        yield node
        skipped = ("body",) if isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock)) else ()
        pending.extend(node.iter_child_nodes(exclude=skipped))
