"""From a route to the plan of one call: which of its targets can be used, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from promptkit.catalog import Catalog
from promptkit.types import Provider, Route, Target

from .flow import Hop, Plan

Strategy: TypeAlias = Callable[[tuple[Hop, ...]], tuple[Hop, ...]]


def _ordered(hops: tuple[Hop, ...]) -> tuple[Hop, ...]:
    return hops


STRATEGIES: Final[Mapping[str, Strategy]] = {"ordered": _ordered}
"""How the targets of a route are put in order, by the name of the strategy."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that is left out of a plan, and why."""

    target: Target
    why: str


def make_plan(
    route: Route,
    catalog: Catalog,
    why_unusable: Callable[[Provider], str | None],
    *,
    resend_unknown: bool = True,
) -> tuple[Plan, tuple[Skipped, ...]]:
    """Plan the calls of a route.

    Args:
        route: targets, strategy, attempts and patience.
        catalog: the providers and models behind the targets.
        why_unusable: None for a provider that can be asked, else the reason (no key, ...).
        resend_unknown: whether an unknown outcome may be sent again.

    Returns:
        The plan, whose hops are empty where no target is usable, and what was left out.

    Raises:
        UsageError: a target names an unknown provider or model.
    """
    hops: list[Hop] = []
    skipped: list[Skipped] = []
    for target in dict.fromkeys(route.targets):
        provider, model = catalog.pair(target)
        why = why_unusable(provider)
        if why is None:
            hops.append(Hop(target, model.context_window))
        else:
            skipped.append(Skipped(target, why))
    last_resort = route.last_resort
    if last_resort is not None and (why := why_unusable(catalog.provider(last_resort.provider))):
        skipped.append(Skipped(last_resort, why))
        last_resort = None
    plan = Plan(
        STRATEGIES[route.strategy](tuple(hops)),
        route.attempts,
        route.patience_s,
        last_resort,
        route.on_content,
        resend_unknown,
    )
    return plan, tuple(skipped)
