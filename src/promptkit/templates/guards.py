"""Writes counting into a syntax tree: once a loop, macro and file, not once an iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from .filters import CONCAT, KEEP, LOOP, SCAN, SLICE, STEP


def guard(tree: nodes.Template) -> None:
    """Guard a whole tree, in place."""
    _Guard().visit(tree)


class _Guard(NodeTransformer):
    """Visits children first, then hands a node to its rewrite, if there is one for its type."""

    def get_visitor(self, node: nodes.Node) -> Callable[..., Any]:  # noqa: ARG002 - one for all types
        return partial(_rewrite, self)


def _rewrite(visitor: NodeTransformer, node: nodes.Node) -> nodes.Node:
    # A weight is taken before the guards of the children are written in.
    weight = _weight_of(node)
    visitor.generic_visit(node)
    rewrite = _REWRITES.get(type(node))
    return node if rewrite is None else rewrite(node, weight)


def _weight_of(node: nodes.Node) -> int:
    if isinstance(node, (nodes.Template, nodes.Macro, nodes.CallBlock)):
        return _weight(node.body)
    if isinstance(node, nodes.For):
        return 1 + _weight(node.body) + _weight([] if node.test is None else [node.test])
    return 0


def _weight(body: Iterable[nodes.Node]) -> int:
    """How many nodes one evaluation of a body touches, but for bodies that count for themselves."""
    return sum(1 for _ in _touched(body))


def _touched(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    pending = list(body)
    while pending:
        node = pending.pop()
        yield node
        skipped = ("body",) if isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock)) else ()
        pending.extend(node.iter_child_nodes(exclude=skipped))


def _charged(node: Any, weight: int) -> nodes.Node:
    """A file, macro or call block: each evaluation of its body counts."""
    node.body.insert(0, nodes.ExprStmt(_call(nodes.Const(weight, lineno=1), STEP), lineno=1))
    return node


def _loop(node: Any, weight: int) -> nodes.Node:
    """A loop: all its iterations count before the first."""
    node.iter = _call(node.iter, LOOP, nodes.Const(weight, lineno=node.lineno))
    return node


def _concat(node: Any, _weight: int) -> nodes.Node:
    return _call(node.nodes[0], CONCAT, *node.nodes[1:])


def _getitem(node: Any, _weight: int) -> nodes.Node:
    if not isinstance(node.arg, nodes.Slice):
        return node
    cuts = (node.arg.start, node.arg.stop, node.arg.step)
    return _call(node.node, SLICE, *(cut or nodes.Const(None, lineno=node.lineno) for cut in cuts))


def _operand(node: Any, _weight: int) -> nodes.Node:
    """What is compared with, or sought in: reading it takes time by its length."""
    if not isinstance(node.expr, nodes.Const):
        node.expr = _call(node.expr, SCAN)
    return node


def _container(node: Any, _weight: int) -> nodes.Node:
    """A list, tuple or mapping that is made here; not the target of an assignment."""
    return node if getattr(node, "ctx", "load") == "store" else _call(node, KEEP)


_REWRITES: Final[Mapping[type[nodes.Node], Callable[[Any, int], nodes.Node]]] = {
    nodes.Template: _charged,
    nodes.Macro: _charged,
    nodes.CallBlock: _charged,
    nodes.For: _loop,
    nodes.Concat: _concat,
    nodes.Getitem: _getitem,
    nodes.Operand: _operand,
    nodes.List: _container,
    nodes.Dict: _container,
    nodes.Tuple: _container,
}


def _call(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
