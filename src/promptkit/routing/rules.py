"""Rules by skeleton and tag: which route a call takes, and which targets it may never reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from promptkit.types import Target

from .budgets import Tag

TEMPLATE: Final = "template"
"""What a rule names a skeleton by, as if it were a tag: `template=ugc/offer`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for the calls with a tag, or of a skeleton.

    `allow` and `deny` list providers and targets; None allows all. `route` is where such calls
    go when the user names no route.
    """

    when: Tag
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    route: str | None = None

    def __str__(self) -> str:
        return f'[rules."{self.when[0]}={self.when[1]}"]'

    def forbids(self, target: Target) -> bool:
        """Whether such a call may not go there."""
        names = (target.provider, str(target))
        denied = any(name in self.deny for name in names)
        return denied or (self.allow is not None and not any(name in self.allow for name in names))


@dataclass(frozen=True, slots=True)
class Ruling:
    """The rules that hold for one call, in the file's order: all of them must allow a target."""

    rules: tuple[Rule, ...] = ()

    @property
    def route(self) -> str | None:
        """The route of the first rule that names one."""
        return next((rule.route for rule in self.rules if rule.route is not None), None)

    def forbids(self, target: Target) -> Rule | None:
        """The first rule that keeps such a call away from a target."""
        return next((rule for rule in self.rules if rule.forbids(target)), None)


FREE: Final = Ruling()
"""No rule holds."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, in the file's order."""

    rules: tuple[Rule, ...] = ()
    _by_tag: Mapping[Tag, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_tag = {rule.when: place for place, rule in enumerate(self.rules)}
        object.__setattr__(self, "_by_tag", by_tag)

    def ruling(self, template: str, tags: Mapping[str, str]) -> Ruling:
        """The rules that hold for a call.

        Args:
            template: the skeleton's name, without version.
            tags: the call's; one named `template` says nothing here.
        """
        if not self.rules:
            return FREE
        mine = {**tags, TEMPLATE: template}
        places = sorted(self._by_tag[tag] for tag in mine.items() if tag in self._by_tag)
        return Ruling(tuple(self.rules[place] for place in places)) if places else FREE

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def routes(self) -> frozenset[str]:
        """The routes that rules name."""
        return frozenset(rule.route for rule in self.rules if rule.route is not None)


NO_RULES: Final = Rules()
