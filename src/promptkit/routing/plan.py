"""Planning: the usable and allowed targets of a route, the rules, and the strategies that order them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from promptkit.types import Provider, Route, Target

from .budgets import Tag
from .catalog import Catalog
from .flow import Plan, PlannedTarget


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that is not in a plan, and why; `rule` is the rule that forbids it."""

    target: Target
    why: str
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The rules that apply to a call, in the file's order: all of them must allow a target."""

    rules: tuple[Rule, ...] = ()

    @property
    def route(self) -> str | None:
        """Return the route of the first rule that names a route."""
        return next((rule.route for rule in self.rules if rule.route is not None), None)

    def forbids(self, target: Target) -> Rule | None:
        """Return the first rule that forbids a target to such a call."""
        return next((rule for rule in self.rules if rule.forbids(target)), None)


FREE = Ruling()
"""No rule applies."""


def make_plan(
    route: Route,
    catalog: Catalog,
    why_unusable: Callable[[Provider], str | None],
    *,
    ruling: Ruling = FREE,
    resend_unknown: bool = True,
) -> tuple[Plan, tuple[Skipped, ...]]:
    """Plan the calls of a route.

    A forbidden target is not in the plan, not even as its last resort, so no call can reach it.

    Args:
        route: targets, strategy, attempts and longest wait.
        catalog: the providers and models behind the targets.
        why_unusable: None for a provider that can be asked, else the reason (no key, ...).
        ruling: the rules that apply to these calls.
        resend_unknown: whether a request with an unknown outcome may be sent a second time.

    Returns:
        The plan, without targets where none is usable, and the targets that it skips.

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


TEMPLATE = "template"
"""The name under which a rule matches a template as if it were a tag: `template=ugc/offer`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for the calls with a tag, or of a template.

    `allow` and `deny` list providers and targets; None allows all. `route` is the route of such
    calls when the user names none.
    """

    when: Tag
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    route: str | None = None

    def __str__(self) -> str:
        return f'[rules."{self.when[0]}={self.when[1]}"]'

    def forbids(self, target: Target) -> bool:
        """Return whether such a call may not use a target."""
        names = (target.provider, str(target))
        denied = any(name in self.deny for name in names)
        return denied or (self.allow is not None and not any(name in self.allow for name in names))


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, in the file's order."""

    rules: tuple[Rule, ...] = ()
    _by_tag: Mapping[Tag, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_tag = {rule.when: index for index, rule in enumerate(self.rules)}
        object.__setattr__(self, "_by_tag", by_tag)

    def ruling(self, template: str, tags: Mapping[str, str]) -> Ruling:
        """Return the rules that apply to a call.

        Args:
            template: the template's name, without version.
            tags: the call's; a tag named `template` has no effect here.
        """
        if not self.rules:
            return FREE
        matched = {**tags, TEMPLATE: template}
        indexes = sorted(self._by_tag[tag] for tag in matched.items() if tag in self._by_tag)
        return Ruling(tuple(self.rules[index] for index in indexes)) if indexes else FREE

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def routes(self) -> frozenset[str]:
        """Return the routes that rules name."""
        return frozenset(rule.route for rule in self.rules if rule.route is not None)


NO_RULES = Rules()

EXPLORE = 0.1
"""The share of calls that `fastest` sends first to a target of unknown latency."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts for a strategy; a target without a known value is not in the mapping.

    Args:
        draw: uniform in [0, 1), one per call.
        cost_pico: the expected cost of this prompt.
        latency_s: the recent latency.
    """

    draw: float = 0.0
    cost_pico: Mapping[Target, int] = field(default_factory=dict[Target, int])
    latency_s: Mapping[Target, float] = field(default_factory=dict[Target, float])


Targets: TypeAlias = "tuple[PlannedTarget, ...]"


Strategy: TypeAlias = Callable[[Targets, Facts], Targets]


def ordered(targets: Targets, facts: Facts) -> Targets:
    """Keep the order of the route."""
    del facts
    return targets


def cheapest(targets: Targets, facts: Facts) -> Targets:
    """Order by the expected cost of this prompt; targets without a price come last."""
    return tuple(sorted(targets, key=lambda planned: facts.cost_pico.get(planned.target, math.inf)))


def fastest(targets: Targets, facts: Facts) -> Targets:
    """Order by recent latency; targets of unknown latency come last, but first in a tenth of the calls.

    Thus a target that was slow or down an hour ago is tried again, at the cost of one call in ten,
    until its latency is known.
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
    index = int(facts.draw / EXPLORE * len(unknown))
    return (unknown[index], *known, *unknown[:index], *unknown[index + 1 :])


def weighted(targets: Targets, facts: Facts) -> Targets:
    """Draw the order at random by weight; targets of weight 0 come last.

    One draw is enough: the rest of it, scaled up, is uniform as well.
    """
    left = [planned for planned in targets if planned.weight]
    drawn: list[PlannedTarget] = []
    draw = facts.draw
    while left:
        point, index = draw * sum(planned.weight for planned in left), 0
        while point >= left[index].weight:
            point -= left[index].weight
            index += 1
        drawn.append(left.pop(index))
        draw = point / drawn[-1].weight
    return (*drawn, *(planned for planned in targets if not planned.weight))


STRATEGIES: Mapping[str, Strategy] = {
    "ordered": ordered,
    "cheapest": cheapest,
    "fastest": fastest,
    "weighted": weighted,
}
"""The strategies, by name: each orders the targets of a route."""
