"""The stable beginning of a template's prompts, which providers can cache: everything before the first value that differs.

Variables with choices and booleans have the same value in many calls. All other variables differ,
and so does every name that gets one of them. The beginning is a program of its own: the template's
tree with its includes inserted, cut off where it first reads something that differs. Run with the
values of a call, it makes the beginning of the prompt, whitespace, branches and loops included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from jinja2 import nodes

from promptkit.types import Kind, Message, Prefix, Variable

from .jinja.compiler import compile_tree, fresh, is_message, parse
from .reference import prompt_digest

if TYPE_CHECKING:
    from .template import Part


LEAST_CHARACTERS = 1_500
"""A shorter beginning reaches no provider's least length: it isn't looked for."""


_NAMES = (nodes.Name, nodes.NSRef)


def differing_names(part: Part) -> frozenset[str]:
    """Return the names whose value differs from call to call, in a template and all that it includes."""
    names = {name for name, variable in part.variables.items() if _differs(variable)}
    trees = [parse(each.source) for each in part.walk()]
    size = -1
    while size < len(names):
        size = len(names)
        for tree in trees:
            for node in tree.find_all(_CARRIERS):
                names |= _carried(node, names)
    return frozenset(names)


def reads(node: nodes.Node, names: Iterable[str]) -> str:
    """Return the first of these names that a node reads, or an empty text."""
    return next((name for name in names_in(node) if name in names), "")


def names_in(node: nodes.Node) -> Iterator[str]:
    """Return the names in a node, in order."""
    if isinstance(node, _NAMES):
        yield node.name
    yield from (name.name for name in node.find_all(_NAMES))


def beginning(part: Part) -> CodeType | None:
    """Compile the program that makes the beginning of every prompt of a template; None if that is short."""
    if sum(len(each.source.body) for each in part.walk()) < LEAST_CHARACTERS:
        return None  # not even parsed: a template whose code is kept from last time starts without it
    tree = fresh(part.source)
    pruner = _Pruner(differing_names(part))
    tree.body = pruner.body(part, tree.body)
    if sum(len(data.data) for data in tree.find_all(nodes.TemplateData)) < LEAST_CHARACTERS:
        return None
    return compile_tree(tree, f"beginning of {part.digest}")


def _differs(variable: Variable) -> bool:
    return not is_one_of_few(variable)


def is_one_of_few(variable: Variable) -> bool:
    """Return whether many calls give a variable the same value."""
    return bool(variable.choices) or variable.kind is Kind.BOOLEAN


_CARRIERS = (
    nodes.Assign,
    nodes.AssignBlock,
    nodes.For,
    nodes.If,
    nodes.Macro,
    nodes.With,
)


def _carried(node: nodes.Node, names: set[str]) -> set[str]:  # noqa: PLR0911 - one row a kind of node
    """Return the names to which this statement gives a differing value."""
    match node:
        case nodes.Assign():
            return set(names_in(node.target)) if reads(node.node, names) else set()
        case nodes.AssignBlock():
            return set(names_in(node.target)) if _opaque(node, names) else set()
        case nodes.Macro():
            return {node.name} if _opaque(node, names) else set()
        case nodes.With():
            pairs = zip(node.targets, node.values, strict=True)
            return {name for to, value in pairs if reads(value, names) for name in names_in(to)}
        case nodes.For() if reads(node.iter, names) or (node.test and reads(node.test, names)):
            return set(names_in(node.target)) | _stored(node)
        case nodes.If() if any(reads(test, names) for test in _tests(node)):
            return _stored(node)
        case _:
            return set()


def _opaque(node: nodes.Node, names: Iterable[str]) -> bool:
    """Return whether a block, which is kept or dropped as a whole, may differ from call to call."""
    return bool(reads(node, names)) or node.find(nodes.Include) is not None


def _stored(node: nodes.Node) -> set[str]:
    """Return the names that are set somewhere inside."""
    names = {name.name for name in node.find_all(nodes.Name) if name.ctx != "load"}
    return (
        names
        | {ref.name for ref in node.find_all(nodes.NSRef)}
        | {m.name for m in node.find_all(nodes.Macro)}
    )


def _tests(node: nodes.If) -> Iterator[nodes.Node]:
    yield node.test
    for branch in node.elif_:
        yield branch.test


class _Pruner:
    """Cuts a fresh tree off where it first reads a differing name; `over` is whether it did."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._over = False

    def body(self, part: Part, statements: Iterable[nodes.Node]) -> list[nodes.Node]:
        """Return the statements up to the cut."""
        kept: list[nodes.Node] = []
        for node in statements:
            if self._over:
                break
            kept += self._statement(part, node)
        return kept

    def _statement(self, part: Part, node: nodes.Node) -> list[nodes.Node]:  # noqa: PLR0911 - one row a kind of node
        match node:
            case nodes.Output():
                node.nodes = list(self._children(node.nodes))
                return [node] if node.nodes else []
            case nodes.Assign() | nodes.AssignBlock() | nodes.Macro() if self._is_carrier(node):
                return []
            case nodes.If():
                return self._branches(part, node)
            case nodes.For():
                return self._loop(part, node)
            case nodes.Include():
                inner = part.includes[str(getattr(node.template, "value", ""))]
                return [_scope(self.body(inner, fresh(inner.source).body), node.lineno)]
            case nodes.With():
                return self._with(part, node)
            case nodes.CallBlock() if is_message(node):
                node.body = self.body(part, node.body)
                return [node] if node.body else []
            case _:
                self._over = _opaque(node, self._names)
                return [] if self._over else [node]

    def _is_carrier(self, node: nodes.Node) -> bool:
        return bool(_carried(node, set(self._names)))

    def _children(self, children: Iterable[nodes.Expr]) -> Iterator[nodes.Expr]:
        for child in children:
            if reads(child, self._names):
                self._over = True
                return
            yield child

    def _branches(self, part: Part, node: nodes.If) -> list[nodes.Node]:
        if any(reads(test, self._names) for test in _tests(node)):
            # Branches that only set names put nothing out: what they set differs, and that is known.
            self._over = any(True for _ in node.find_all(_SPEAKING))
            return []
        over = False
        for branch, field in _bodies(node):
            self._over = False
            setattr(branch, field, self.body(part, getattr(branch, field)))
            over |= self._over
        self._over = over  # which branch a call takes is its own matter: behind the first cut nothing is kept
        return [node]

    def _loop(self, part: Part, node: nodes.For) -> list[nodes.Node]:
        if node.recursive or reads(node.iter, self._names) or (node.test and reads(node.test, self._names)):
            self._over = True
            return []
        node.body = self.body(part, node.body)
        if not self._over:
            node.else_ = self.body(part, node.else_)
        return [] if self._over else [node]

    def _with(self, part: Part, node: nodes.With) -> list[nodes.Node]:
        pairs = zip(node.targets, node.values, strict=True)
        same = [(to, value) for to, value in pairs if not reads(value, self._names)]
        node.targets = [to for to, _ in same]
        node.values = [value for _, value in same]
        node.body = self.body(part, node.body)
        return [node]


_SPEAKING = (nodes.Output, nodes.CallBlock, nodes.Include, nodes.ExprStmt)
"""What puts something out."""


def _bodies(node: nodes.If) -> Iterator[tuple[nodes.If, str]]:
    yield node, "body"
    for branch in node.elif_:
        yield branch, "body"
    yield node, "else_"


def _scope(body: list[nodes.Node], line: int) -> nodes.Node:
    """Return the statements of an include in a scope of their own."""
    return nodes.With([], [], body, lineno=line)


def few_of(variables: Mapping[str, Variable]) -> tuple[str, ...]:
    """Return the variables by which one beginning differs from another."""
    return tuple(name for name, variable in variables.items() if is_one_of_few(variable))


def key_of(few: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """Return the key of the beginning that these values make."""
    return repr([values.get(name) for name in few]) if few else ""


def prefix_of(messages: Sequence[Message]) -> Prefix | None:
    """Return the messages that a beginning made, as a prefix; None if it is too short."""
    texts = tuple(message.content for message in messages)
    return Prefix(texts, prompt_digest(messages)) if sum(map(len, texts)) >= LEAST_CHARACTERS else None


def begins_with(messages: Sequence[Message], prefix: Prefix) -> bool:
    """Return whether these messages begin with the prefix, to the letter."""
    last = len(prefix.texts) - 1
    return len(messages) > last and all(
        message.content.startswith(text) and (at == last or len(message.content) == len(text))
        for at, (message, text) in enumerate(zip(messages, prefix.texts, strict=False))
    )
