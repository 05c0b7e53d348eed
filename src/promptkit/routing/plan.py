"""From a route to the plan of its calls: which of its targets can be used, and may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from promptkit.types import Provider, Route, Target

from .budgets import Tag
from .catalog import Catalog
from .flow import Plan, PlannedTarget


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that is left out of a plan, and why; `rule` is the one that keeps calls away from it."""

    target: Target
    why: str
    rule: Rule | None = None


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


def make_plan(
    route: Route,
    catalog: Catalog,
    why_unusable: Callable[[Provider], str | None],
    *,
    ruling: Ruling = FREE,
    resend_unknown: bool = True,
) -> tuple[Plan, tuple[Skipped, ...]]:
    """Plan the calls of a route.

    A target that a rule forbids is in no hop and is no last resort, so nothing can fall back on it.

    Args:
        route: targets, strategy, attempts and patience.
        catalog: the providers and models behind the targets.
        why_unusable: None for a provider that can be asked, else the reason (no key, ...).
        ruling: the rules that hold for these calls.
        resend_unknown: whether an unknown outcome may be sent again.

    Returns:
        The plan, whose hops are empty where no target is usable, and what was left out.

    Raises:
        UsageError: a target names an unknown provider or model.
    """
    skipped: list[Skipped] = []

    def usable(target: Target) -> bool:
        rule = ruling.forbids(target)
        why = f"{rule} forbids it" if rule else why_unusable(catalog.provider(target.provider))
        if why is not None:
            skipped.append(Skipped(target, why, rule))
        return why is None

    weights = dict(zip(route.targets, route.weights, strict=False))
    targets = tuple(
        PlannedTarget(target, catalog.pair(target)[1].context_window, weights.get(target, 1))
        for target in dict.fromkeys(route.targets)
        if usable(target)
    )
    last_resort = route.last_resort
    if last_resort is not None and not usable(last_resort):
        last_resort = None
    plan = Plan(
        targets,
        route.attempts,
        route.max_wait_s,
        last_resort,
        route.on_content,
        resend_unknown,
        route.strategy,
        route.outage_s,
    )
    return plan, tuple(skipped)


TEMPLATE: Final = "template"
"""What a rule names a template by, as if it were a tag: `template=ugc/offer`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for the calls with a tag, or of a template.

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
            template: the template's name, without version.
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


EXPLORE: Final = 0.1
"""The share of calls that `fastest` sends first to a target whose latency isn't known."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a strategy may go by; a target of which something isn't known is left out.

    Args:
        draw: uniform in [0, 1), of the call's own.
        cost_pico: what this very prompt is expected to cost.
        latency_s: how long answers took lately.
    """

    draw: float = 0.0
    cost_pico: Mapping[Target, int] = field(default_factory=dict[Target, int])
    latency_s: Mapping[Target, float] = field(default_factory=dict[Target, float])


Hops: TypeAlias = "tuple[PlannedTarget, ...]"


Strategy: TypeAlias = Callable[[Hops, Facts], Hops]


def ordered(targets: Hops, facts: Facts) -> Hops:
    """As the route lists them."""
    del facts
    return targets


def cheapest(targets: Hops, facts: Facts) -> Hops:
    """By what this prompt is expected to cost; what has no price comes last."""
    return tuple(sorted(targets, key=lambda planned: facts.cost_pico.get(planned.target, math.inf)))


def fastest(targets: Hops, facts: Facts) -> Hops:
    """By how long answers took lately; those of unknown latency last, but first in a tenth of the calls.

    So a target that was slow or down an hour ago is tried again, and costs one call in ten until
    its latency is known.
    """
    unknown = tuple(planned for planned in targets if planned.target not in facts.latency_s)
    if len(unknown) == len(targets):
        return targets
    known = tuple(
        sorted(
            (planned for planned in targets if planned not in unknown),
            key=lambda planned: facts.latency_s[planned.target],
        )
    )
    if not unknown or facts.draw >= EXPLORE:
        return known + unknown
    turn = int(facts.draw / EXPLORE * len(unknown))
    return (unknown[turn], *known, *unknown[:turn], *unknown[turn + 1 :])


def weighted(targets: Hops, facts: Facts) -> Hops:
    """Drawn by their weights, the first as well as each that follows it; those of weight 0 come last.

    One draw is enough: what is left of it, scaled up, is uniform again.
    """
    left = [planned for planned in targets if planned.weight]
    drawn: list[PlannedTarget] = []
    draw = facts.draw
    while left:
        point, place = draw * sum(planned.weight for planned in left), 0
        while point >= left[place].weight:
            point -= left[place].weight
            place += 1
        drawn.append(left.pop(place))
        draw = point / drawn[-1].weight
    return (*drawn, *(planned for planned in targets if not planned.weight))


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "ordered": ordered,
    "cheapest": cheapest,
    "fastest": fastest,
    "weighted": weighted,
}
"""How the targets of a route are put in order, by the name of the strategy."""
