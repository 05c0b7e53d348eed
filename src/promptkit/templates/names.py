"""The variables that a template needs from its caller, read from its source through includes and branches.

The walk follows the order of rendering and knows at each location which names the template has
set for certain. A name that is read where it isn't certainly set comes, or may come, from the
caller. So no rendering needs a name that is not in `used`, and every rendering that succeeds needs
the names in `always`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from jinja2 import nodes

from .declarations import EACH, Path, path_of, unknown_field
from .jinja.compiler import GLOBALS, is_message, parse
from .template import Part, Template

_IMPLICIT = frozenset({"loop", "caller", *GLOBALS})
_TOLERANT_TESTS = frozenset({"defined", "undefined"})
_TOLERANT_FILTERS = frozenset({"default", "d"})


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class NameUsage:
    """The names that a template uses, each with its first location in the order of rendering.

    `used` are the names read where the template hasn't certainly set them; `always` those of them
    that every rendering reads. `shadowed` are declared variables whose name the template sets,
    loops over or takes as a parameter. `undeclared` are read without being declared: set in some
    branches, or never. `unused` are declared and not read. `paths` are all paths
    into variables that are read, also through loops and `set`: `("products", "*", "name")`;
    `unknown_fields` those of them that a declared object doesn't have.
    """

    used: Mapping[str, Location]
    always: frozenset[str]
    shadowed: Mapping[str, Location]
    undeclared: Mapping[str, Location]
    unused: tuple[str, ...]
    paths: Mapping[Path, Location]
    unknown_fields: Mapping[Path, Location]

    @property
    def conditional(self) -> frozenset[str]:
        """The names that some renderings read and others may not."""
        return frozenset(self.used) - self.always


def check(template: Template | Part) -> NameUsage:
    """Read which names a template uses. What a partial leaves to the templates that include it is undeclared."""
    part = template.part if isinstance(template, Template) else template
    walk = _Walk(part)
    walk.file(part, None)
    declared = part.variables
    return NameUsage(
        used=walk.used,
        always=frozenset(walk.always),
        shadowed={name: location for name, location in walk.stored.items() if name in declared},
        undeclared={name: location for name, location in walk.used.items() if name not in declared},
        unused=tuple(name for name in declared if name not in walk.used),
        paths=walk.paths,
        unknown_fields={
            path: location
            for path, location in walk.paths.items()
            if unknown_field(declared, path) is not None
        },
    )


class _Walk:
    """One walk over a part and all that it includes."""

    def __init__(self, root: Part) -> None:
        self.used: dict[str, Location] = {}
        self.always: set[str] = set()
        self.stored: dict[str, Location] = {}
        self.paths: dict[Path, Location] = {}
        self._part = root
        self._scope = Scope(None)
        self._trees: dict[str, nodes.Template] = {}
        self._walked: dict[tuple[object, ...], set[str]] = {}

    def file(self, part: Part, scope: Scope | None) -> None:
        """Walk a file; what it sets stays in it."""
        key = part.compiled.key
        if key not in self._trees:
            self._trees[key] = parse(part.source)

        def walk() -> None:
            with self._in(part, Scope(scope)):
                self._all(self._trees[key].body)

        self._once(part.digest, scope, walk)

    def _once(self, subject: object, scope: Scope | None, walk: Callable[[], None]) -> None:
        """Walk a file or macro, unless that was done with the same names set: it tells nothing new."""
        key = (subject, None if scope is None else scope.seen())
        if key not in self._walked:
            self._walked[key] = set()
            self._walked[key] = self._sure(walk)
        self.always |= self._walked[key]

    def _sure(self, walk: Callable[[], None]) -> set[str]:
        """Return the names that a walk certainly reads, and leave `always` as it was."""
        outer, self.always = self.always, set()
        walk()
        read, self.always = self.always, outer
        return read

    @contextmanager
    def _in(self, part: Part, scope: Scope) -> Generator[None]:
        outer = self._part, self._scope
        self._part, self._scope = part, scope
        yield
        self._part, self._scope = outer

    @contextmanager
    def _inner(self) -> Generator[None]:
        """Open a scope: names that are set in it end with it."""
        with self._in(self._part, Scope(self._scope)):
            yield

    @contextmanager
    def _maybe(self) -> Generator[None]:
        """Walk something that not every rendering goes through."""
        before = set(self.always)
        yield
        self.always = before

    def _location(self, node: nodes.Node) -> Location:
        return Location(self._part.source.file, node.lineno + self._part.source.offset)

    def _all(self, body: Iterable[nodes.Node]) -> None:
        for node in body:
            self._node(node)

    def _node(self, node: nodes.Node) -> None:  # noqa: C901, PLR0912 - one row a kind of node
        match node:
            case nodes.Name() | nodes.NSRef():
                self._read((node.name,), node)
            case nodes.Getattr() | nodes.Getitem():
                self._dotted(node)
            case nodes.If():
                self._if(node)
            case nodes.For():
                self._for(node)
            case nodes.Assign():
                self._node(node.node)
                self._store(node.target, self._resolved(path_of(node.node)))
            case nodes.AssignBlock():
                self._block(node.body, node.filter)
                self._store(node.target, None)
            case nodes.FilterBlock():
                self._block(node.body, node.filter)
            case nodes.With():
                self._with(node)
            case nodes.Macro():
                self._define(node)
            case nodes.CallBlock():
                self._call_block(node)
            case nodes.Call():
                self._call(node)
            case nodes.Include():
                self._include(node)
            case nodes.CondExpr():
                self._node(node.test)
                self._alternatives(
                    [partial(self._all, [node.expr1]), partial(self._all, [node.expr2] if node.expr2 else [])]
                )
            case nodes.And() | nodes.Or():
                self._node(node.left)
                self._maybe_all([node.right])
            case nodes.Compare():
                self._all([node.expr, *node.ops[:1]])
                self._maybe_all(node.ops[1:])
            case nodes.Test() if node.name in _TOLERANT_TESTS:
                self._maybe_all([node.node])
            case nodes.Filter() if node.name in _TOLERANT_FILTERS and node.node is not None:
                self._maybe_all([node.node])
                self._all([*node.args, *node.kwargs])
            case _:
                self._all(node.iter_child_nodes())

    def _maybe_all(self, body: Iterable[nodes.Node]) -> None:
        with self._maybe():
            self._all(body)

    def _block(self, body: list[nodes.Node], filters: nodes.Node | None = None) -> None:
        with self._inner():
            self._all(body)
        if filters is not None:
            self._node(filters)

    def _if(self, node: nodes.If) -> None:
        """Walk the branches: a name that each of them sets is set after them."""
        scope, before = self._scope, self._scope.known
        ends: list[Known] = []

        def branch(body: list[nodes.Node]) -> None:
            scope.known = before.copy()
            self._all(body)
            ends.append(scope.known)
            scope.known = before

        def otherwise(rest: list[nodes.If]) -> None:
            if not rest:
                branch(node.else_)
                return
            self._node(rest[0].test)
            self._alternatives([partial(branch, rest[0].body), partial(otherwise, rest[1:])])

        otherwise([node, *node.elif_])
        scope.known = merged(ends)

    def _alternatives(self, walks: Iterable[Callable[[], None]]) -> None:
        """Walk alternatives, of which a rendering takes one: what each of them reads is certainly read."""
        self.always |= set[str].intersection(*(self._sure(walk) for walk in walks))

    def _for(self, node: nodes.For) -> None:
        self._node(node.iter)
        over = self._resolved(path_of(node.iter))

        def iteration() -> None:
            with self._inner():
                self._store(node.target, None if over is None else (*over, EACH))
                if node.test is not None:
                    self._node(node.test)
                self._all(node.body)

        self._alternatives([iteration, partial(self._block, node.else_)])

    def _with(self, node: nodes.With) -> None:
        self._all(node.values)
        paths = [self._resolved(path_of(value)) for value in node.values]
        with self._inner():
            for target, path in zip(node.targets, paths, strict=True):
                self._store(target, path)
            self._all(node.body)

    def _define(self, node: nodes.Macro) -> None:
        """Keep a macro: its body is walked where it is called, because more may be set by then."""
        self.stored.setdefault(node.name, self._location(node))
        self._scope.known.set(node.name, macro=Macro(node, self._part, self._scope))

    def _call_block(self, node: nodes.CallBlock) -> None:
        if is_message(node):
            self._block(node.body)
            return
        self._node(node.call)
        with self._maybe(), self._inner():
            self._parameters(node)
            self._all(node.body)

    def _call(self, node: nodes.Call) -> None:
        self._all(node.iter_child_nodes(exclude=("node",)))
        if isinstance(node.node, nodes.Name):
            self._read((node.node.name,), node.node, called=True)
        else:
            self._node(node.node)

    def _macro(self, macro: Macro) -> None:
        def walk() -> None:
            with self._in(macro.part, Scope(macro.scope)):
                self._parameters(macro.node)
                self._all(macro.node.body)

        self._once(id(macro.node), macro.scope, walk)

    def _parameters(self, node: nodes.Macro | nodes.CallBlock) -> None:
        for argument in node.args:
            self._store(argument, None)
        self._maybe_all(node.defaults)

    def _include(self, node: nodes.Include) -> None:
        assert isinstance(node.template, nodes.Const)  # noqa: S101 - the compiler refuses any other
        self.file(self._part.includes[node.template.value], self._scope)

    def _dotted(self, node: nodes.Getattr | nodes.Getitem) -> None:
        path = path_of(node)
        if path is not None:
            self._read(path, node)
        else:
            self._all(node.iter_child_nodes())

    def _read(self, path: Path, node: nodes.Node, *, called: bool = False) -> None:
        self._macros(path[0], called=called)
        whole = self._resolved(path)
        if whole is None:
            return
        self.paths.setdefault(whole, self._location(node))
        if self._scope.find(path[0]) is None:
            self.used.setdefault(path[0], self._location(node))
            if not self._scope.may_have(path[0]):
                self.always.add(path[0])

    def _macros(self, name: str, *, called: bool) -> None:
        """Walk what a name may call; one that is only handed on may be called or not."""
        macros = self._scope.macros(name)
        if macros and called and self._scope.find(name):
            self._alternatives(partial(self._macro, macro) for macro in macros)
        else:
            with self._maybe():
                for macro in macros:
                    self._macro(macro)

    def _resolved(self, path: Path | None) -> Path | None:
        """Return the path from the caller's variable on; None if it doesn't lead to one."""
        if path is None or path[0] in _IMPLICIT:
            return None
        scope = self._scope.find(path[0])
        if scope is None:
            return path
        origin = scope.known.sure[path[0]]
        return None if origin is None else (*origin, *path[1:])

    def _store(self, target: nodes.Node, path: Path | None) -> None:
        """Record that a target is set; `path` is the path of the caller's value that it gets."""
        match target:
            case nodes.Name():
                self.stored.setdefault(target.name, self._location(target))
                self._scope.known.set(target.name, path)
            case nodes.Tuple():
                for item in target.items:
                    self._store(item, None)
            case _:
                self._node(target)


@dataclass(frozen=True, slots=True)
class Known:
    """The names that are set in one scope, at one location.

    `sure` are those certainly set, each with the path into a caller's variable that it stands for, if
    one; `maybe` those set in some of the branches before; `macros` what a name may call.
    """

    sure: dict[str, Path | None] = field(default_factory=dict[str, "Path | None"])
    maybe: set[str] = field(default_factory=set[str])
    macros: dict[str, tuple[Macro, ...]] = field(default_factory=dict[str, "tuple[Macro, ...]"])

    def copy(self) -> Known:
        """Return a copy that can change on its own."""
        return Known(dict(self.sure), set(self.maybe), dict(self.macros))

    def set(self, name: str, path: Path | None = None, macro: Macro | None = None) -> None:
        """Record that a name is set."""
        self.sure[name] = path
        self.maybe.add(name)
        self.macros[name] = () if macro is None else (macro,)


def merged(ends: list[Known]) -> Known:
    """Return what is known where several branches end."""
    first = ends[0].sure
    common = [name for name in first if all(name in end.sure for end in ends)]
    names = {name for end in ends for name in end.macros}
    return Known(
        {
            name: first[name] if all(end.sure[name] == first[name] for end in ends) else None
            for name in common
        },
        {name for end in ends for name in end.maybe},
        {
            name: tuple(dict.fromkeys(macro for end in ends for macro in end.macros.get(name, ())))
            for name in names
        },
    )


@dataclass(slots=True, eq=False)
class Scope:
    """A scope in which names are set, within another."""

    outer: Scope | None
    known: Known = field(default_factory=Known)

    def chain(self) -> Iterator[Scope]:
        """Yield this scope and the ones around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def find(self, name: str) -> Scope | None:
        """Return the scope that has certainly set a name, or None."""
        return next((scope for scope in self.chain() if name in scope.known.sure), None)

    def may_have(self, name: str) -> bool:
        """Return whether a name may be set."""
        return any(name in scope.known.maybe for scope in self.chain())

    def macros(self, name: str) -> list[Macro]:
        """Return every macro that a name may mean."""
        macros: list[Macro] = []
        for scope in self.chain():
            macros += scope.known.macros.get(name, ())
            if name in scope.known.sure:
                break
        return macros

    def seen(self) -> tuple[frozenset[object], frozenset[str]]:
        """Return everything that is certainly set, and everything that may be."""
        return (
            frozenset(item for scope in self.chain() for item in scope.known.sure.items()),
            frozenset(name for scope in self.chain() for name in scope.known.maybe),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Macro:
    """A macro, where it was defined."""

    node: nodes.Macro
    part: Part
    scope: Scope
