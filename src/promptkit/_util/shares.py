"""Shares of a whole, in integers that add up to it exactly.

A share is stored as its begin and end on a line of `PARTS` steps. Its part of an amount lies between
the two ends, each rounded down: neighbours have an end in common, so nothing is missing or counted
twice, whatever is split: cost, charge, tokens, attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

PARTS = 10_000
"""Steps of the line. An amount times this stays within 63 bits up to 922 USD in pico-USD."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a whole: from `begin` to `end`, of `PARTS`."""

    begin: int
    end: int

    def of(self, amount: int) -> int:
        """Return this part of an amount."""
        return amount * self.end // PARTS - amount * self.begin // PARTS


WHOLE = Share(0, PARTS)


def shares(weights: Sequence[int]) -> tuple[Share, ...]:
    """Return one share per weight, in their order; equal ones if no weight is above 0.

    Args:
        weights: at least one, none below 0.
    """
    weights = weights if any(weights) else [1] * len(weights)
    total = sum(weights)
    ends = (reached * PARTS // total for reached in accumulate(weights, initial=0))
    return tuple(Share(begin, end) for begin, end in pairwise(ends))
