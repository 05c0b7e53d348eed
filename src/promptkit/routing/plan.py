"""From a route to the plan of its calls: which of its targets can be used, and may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promptkit.catalog import Catalog
from promptkit.types import Provider, Route, Target

from .flow import Hop, Plan
from .rules import FREE, Rule, Ruling


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that is left out of a plan, and why; `rule` is the one that keeps calls away from it."""

    target: Target
    why: str
    rule: Rule | None = None


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
    hops = tuple(
        Hop(target, catalog.pair(target)[1].context_window, weights.get(target, 1))
        for target in dict.fromkeys(route.targets)
        if usable(target)
    )
    last_resort = route.last_resort
    if last_resort is not None and not usable(last_resort):
        last_resort = None
    plan = Plan(
        hops,
        route.attempts,
        route.patience_s,
        last_resort,
        route.on_content,
        resend_unknown,
        route.strategy,
        route.outage_s,
    )
    return plan, tuple(skipped)
