"""In what order the targets of a route are tried: pure functions of what is known of each.

The flow goes on from there: whatever the strategy puts first, the others follow when it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from promptkit.types import Target

if TYPE_CHECKING:
    from .flow import Hop  # tenacity with it: the configuration needs no more than the names below

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


Hops: TypeAlias = "tuple[Hop, ...]"
Strategy: TypeAlias = Callable[[Hops, Facts], Hops]


def ordered(hops: Hops, facts: Facts) -> Hops:
    """As the route lists them."""
    del facts
    return hops


def cheapest(hops: Hops, facts: Facts) -> Hops:
    """By what this prompt is expected to cost; what has no price comes last."""
    return tuple(sorted(hops, key=lambda hop: facts.cost_pico.get(hop.target, math.inf)))


def fastest(hops: Hops, facts: Facts) -> Hops:
    """By how long answers took lately; those of unknown latency last, but first in a tenth of the calls.

    So a target that was slow or down an hour ago is tried again, and costs one call in ten until
    its latency is known.
    """
    unknown = tuple(hop for hop in hops if hop.target not in facts.latency_s)
    if len(unknown) == len(hops):
        return hops
    known = tuple(
        sorted((hop for hop in hops if hop not in unknown), key=lambda hop: facts.latency_s[hop.target])
    )
    if not unknown or facts.draw >= EXPLORE:
        return known + unknown
    turn = int(facts.draw / EXPLORE * len(unknown))
    return (unknown[turn], *known, *unknown[:turn], *unknown[turn + 1 :])


def weighted(hops: Hops, facts: Facts) -> Hops:
    """Drawn by their weights, the first as well as each that follows it; those of weight 0 come last.

    One draw is enough: what is left of it, scaled up, is uniform again.
    """
    left = [hop for hop in hops if hop.weight]
    drawn: list[Hop] = []
    draw = facts.draw
    while left:
        point, place = draw * sum(hop.weight for hop in left), 0
        while point >= left[place].weight:
            point -= left[place].weight
            place += 1
        drawn.append(left.pop(place))
        draw = point / drawn[-1].weight
    return (*drawn, *(hop for hop in hops if not hop.weight))


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "ordered": ordered,
    "cheapest": cheapest,
    "fastest": fastest,
    "weighted": weighted,
}
"""How the targets of a route are put in order, by the name of the strategy."""
