"""What lint finds, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from promptkit.catalog import Catalog
from promptkit.pricing import Prices
from promptkit.types import Model, Provider, Route, Target

from .subject import Subject


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
