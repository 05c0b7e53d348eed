"""Rules on variables and descriptions: PK1xx."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Spot, World
from .subject import Subject


def undeclared(subject: Subject, _world: World) -> Iterator[Spot]:
    """Names that are set on some ways through the template and read on others."""
    if subject.skeleton.is_partial:
        return
    for name, place in subject.uses.undeclared.items():
        yield Spot(
            f"{name} is read where nothing may have set it, and it isn't declared",
            place.file,
            place.line,
            f"Set it on every way to this line, or declare [variables.{name}].",
        )
    for path, place in subject.uses.unknown_fields.items():
        yield Spot(
            f"{'.'.join(path)} is no declared field",
            place.file,
            place.line,
            "Declare it among the variable's fields, or correct the name.",
        )


def unused(subject: Subject, _world: World) -> Iterator[Spot]:
    """Variables that neither the text nor the checks read."""
    checks = subject.spec.checks
    elsewhere = {*checks.banned_from, *checks.required_from, checks.language_from} if checks else set[str]()
    for name in subject.uses.unused:
        if name not in elsewhere:
            yield Spot(
                f"the variable {name} is declared and never used",
                subject.file,
                subject.key_line("variables", name),
                "Use it in the text, or take its declaration out: callers are asked for it in vain.",
            )


def shadowed(subject: Subject, _world: World) -> Iterator[Spot]:
    """Variables that a `set`, `for`, `with` or macro gives another meaning."""
    for name, place in subject.uses.shadowed.items():
        yield Spot(
            f"{name} hides the variable of the same name",
            place.file,
            place.line,
            "Choose another name here: below this line the caller's value can't be read.",
        )


def undescribed(subject: Subject, _world: World) -> Iterator[Spot]:
    """A template without a description."""
    if not subject.spec.description.strip():
        yield Spot(
            "no description",
            subject.file,
            subject.key_line("description"),
            'Say what it makes: description = "..." in the front matter.',
        )


def undescribed_variable(subject: Subject, _world: World) -> Iterator[Spot]:
    """Variables without a description."""
    for name, variable in subject.spec.variables.items():
        if not variable.description.strip():
            yield Spot(
                f"the variable {name} has no description",
                subject.file,
                subject.key_line("variables", name),
                f'Say what belongs there: description = "..." below [variables.{name}].',
            )
