"""What a template needs of its caller: read off the source, includes and branches followed.

The walk goes through a tree in the order in which rendering does and knows at each place which
names the template has surely set. A name that is read where it isn't surely set comes, or may
come, from the caller. So a name that is not in `used` is never missed by any rendering, and one
in `always` is missed by every rendering that goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from jinja2 import nodes

from .compiler import GLOBALS, is_message, parse
from .declarations import EACH, Path, path_of, unknown_field
from .template import Part, Template

_IMPLICIT: Final = frozenset({"loop", "caller", *GLOBALS})


_TOLERANT_TESTS: Final = frozenset({"defined", "undefined"})


_TOLERANT_FILTERS: Final = frozenset({"default", "d"})


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a checker sees; each name with the first place, in the order of rendering.

    `used` are the names read where the template hasn't surely set them; `always` those of them
    that every rendering reads. `shadowed` are declared variables whose name the template sets,
    loops over or takes as a parameter. `undeclared` are read without being declared: set on some
    ways and not on others, or never. `unused` are declared and not read. `paths` are all ways
    into variables that are read, also through loops and `set`: `("products", "*", "name")`;
    `unknown_fields` those of them that a declared object doesn't have.
    """

    used: Mapping[str, Place]
    always: frozenset[str]
    shadowed: Mapping[str, Place]
    undeclared: Mapping[str, Place]
    unused: tuple[str, ...]
    paths: Mapping[Path, Place]
    unknown_fields: Mapping[Path, Place]

    @property
    def conditional(self) -> frozenset[str]:
        """The names that some renderings read and others may not."""
        return frozenset(self.used) - self.always


def check(what: Template | Part) -> Findings:
    """Check a template, or a part: a partial declares nothing, so all that it needs is undeclared."""
    part = what.part if isinstance(what, Template) else what
    walk = _Walk(part)
    walk.file(part, None)
    declared = part.source.spec.variables
    return Findings(
        used=walk.used,
        always=frozenset(walk.always),
        shadowed={name: place for name, place in walk.stored.items() if name in declared},
        undeclared={name: place for name, place in walk.used.items() if name not in declared},
        unused=tuple(name for name in declared if name not in walk.used),
        paths=walk.paths,
        unknown_fields={
            path: place for path, place in walk.paths.items() if unknown_field(declared, path) is not None
        },
    )


class _Walk:
    """One walk over a part and all that it includes."""

    def __init__(self, root: Part) -> None:
        self.used: dict[str, Place] = {}
        self.always: set[str] = set()
        self.stored: dict[str, Place] = {}
        self.paths: dict[Path, Place] = {}
        self._part = root
        self._scope = Scope(None)
        self._trees: dict[str, nodes.Template] = {}
        self._walked: dict[tuple[object, ...], set[str]] = {}

    # ---------------------------------------------------------------- files and scopes

    def file(self, part: Part, scope: Scope | None) -> None:
        """Walk a file; what it sets stays in it."""
        key = part.compiled.key
        if key not in self._trees:
            self._trees[key] = parse(part.source)

        def walk() -> None:
            with self._in(part, Scope(scope)):
                self._all(self._trees[key].body)

        self._once(part.digest, scope, walk)

    def _once(self, what: object, scope: Scope | None, walk: Callable[[], None]) -> None:
        """Walk a file or macro, unless that was done with the same names set: it tells nothing new."""
        key = (what, None if scope is None else scope.seen())
        if key not in self._walked:
            self._walked[key] = set()
            self._walked[key] = self._sure(walk)
        self.always |= self._walked[key]

    def _sure(self, walk: Callable[[], None]) -> set[str]:
        """The names that a walk is sure to read, kept apart."""
        outer, self.always = self.always, set()
        walk()
        found, self.always = self.always, outer
        return found

    @contextmanager
    def _in(self, part: Part, scope: Scope) -> Generator[None]:
        outer = self._part, self._scope
        self._part, self._scope = part, scope
        yield
        self._part, self._scope = outer

    @contextmanager
    def _inner(self) -> Generator[None]:
        """A scope of its own: what is set in it ends with it."""
        with self._in(self._part, Scope(self._scope)):
            yield

    @contextmanager
    def _maybe(self) -> Generator[None]:
        """A part that not every rendering goes through."""
        before = set(self.always)
        yield
        self.always = before

    def _place(self, node: nodes.Node) -> Place:
        return Place(self._part.source.file, node.lineno + self._part.source.offset)

    # ------------------------------------------------------------------------ walking

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
                self._ways(
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
        """What is set in every branch is set behind them."""
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
            self._ways([partial(branch, rest[0].body), partial(otherwise, rest[1:])])

        otherwise([node, *node.elif_])
        scope.known = met(ends)

    def _ways(self, ways: Iterable[Callable[[], None]]) -> None:
        """One of these is gone: what each of them reads is read for sure."""
        self.always |= set[str].intersection(*(self._sure(way) for way in ways))

    def _for(self, node: nodes.For) -> None:
        self._node(node.iter)
        over = self._resolved(path_of(node.iter))

        def turn() -> None:
            with self._inner():
                self._store(node.target, None if over is None else (*over, EACH))
                if node.test is not None:
                    self._node(node.test)
                self._all(node.body)

        self._ways([turn, partial(self._block, node.else_)])

    def _with(self, node: nodes.With) -> None:
        self._all(node.values)
        paths = [self._resolved(path_of(value)) for value in node.values]
        with self._inner():
            for target, path in zip(node.targets, paths, strict=True):
                self._store(target, path)
            self._all(node.body)

    def _define(self, node: nodes.Macro) -> None:
        """A macro's body is walked where it is called: by then more may be set than where it stands."""
        self.stored.setdefault(node.name, self._place(node))
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

    # ----------------------------------------------------------------- reads and stores

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
        self.paths.setdefault(whole, self._place(node))
        if self._scope.find(path[0]) is None:
            self.used.setdefault(path[0], self._place(node))
            if not self._scope.may_have(path[0]):
                self.always.add(path[0])

    def _macros(self, name: str, *, called: bool) -> None:
        """Walk what a name may call; one that is only handed on may be called or not."""
        found = self._scope.macros(name)
        if found and called and self._scope.find(name):
            self._ways(partial(self._macro, macro) for macro in found)
        else:
            with self._maybe():
                for macro in found:
                    self._macro(macro)

    def _resolved(self, path: Path | None) -> Path | None:
        """The same path from the caller's variable on; None where it leads to none."""
        if path is None or path[0] in _IMPLICIT:
            return None
        scope = self._scope.find(path[0])
        if scope is None:
            return path
        stands_for = scope.known.sure[path[0]]
        return None if stands_for is None else (*stands_for, *path[1:])

    def _store(self, target: nodes.Node, path: Path | None) -> None:
        """A target is set; `path` is what of the caller's it stands for."""
        match target:
            case nodes.Name():
                self.stored.setdefault(target.name, self._place(target))
                self._scope.known.set(target.name, path)
            case nodes.Tuple():
                for item in target.items:
                    self._store(item, None)
            case _:
                self._node(target)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about names in one scope, at one place.

    `sure` are those surely set, each with the path into a caller's variable that it stands for, if
    one; `maybe` those set on some of the ways that lead here; `macros` what a name may call.
    """

    sure: dict[str, Path | None] = field(default_factory=dict[str, "Path | None"])
    maybe: set[str] = field(default_factory=set[str])
    macros: dict[str, tuple[Macro, ...]] = field(default_factory=dict[str, "tuple[Macro, ...]"])

    def copy(self) -> Known:
        """The same, to go on from apart."""
        return Known(dict(self.sure), set(self.maybe), dict(self.macros))

    def set(self, name: str, path: Path | None = None, macro: Macro | None = None) -> None:
        """A name is set."""
        self.sure[name] = path
        self.maybe.add(name)
        self.macros[name] = () if macro is None else (macro,)


def met(ends: list[Known]) -> Known:
    """What is known where several ways meet."""
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
    """A place where names are set, within another."""

    outer: Scope | None
    known: Known = field(default_factory=Known)

    def chain(self) -> Iterator[Scope]:
        """This scope and the ones around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def find(self, name: str) -> Scope | None:
        """The scope that has surely set a name."""
        return next((scope for scope in self.chain() if name in scope.known.sure), None)

    def may_have(self, name: str) -> bool:
        """Whether a name may be set."""
        return any(name in scope.known.maybe for scope in self.chain())

    def macros(self, name: str) -> list[Macro]:
        """Every macro that a name may mean."""
        found: list[Macro] = []
        for scope in self.chain():
            found += scope.known.macros.get(name, ())
            if name in scope.known.sure:
                break
        return found

    def seen(self) -> tuple[frozenset[object], frozenset[str]]:
        """All that is surely set, and all that may be."""
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
