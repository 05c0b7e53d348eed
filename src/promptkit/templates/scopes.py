"""What is known about names at one place of a template: surely set, maybe set, macros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from jinja2 import nodes

from .paths import Path
from .skeleton import Part


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
