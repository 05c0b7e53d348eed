"""Shares of a whole, as integers that add up to it exactly.

A share is a range on a line of `PARTS` steps. Its part of an amount is the difference between the
two ends, each rounded down. Neighbours have an end in common, so nothing is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

PARTS = 10_000
"""Steps of the line. Up to 922 USD, an amount in pico-USD times this fits into 63 bits."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of a whole: from `begin` to `end`, of `PARTS`."""

    begin: int
    end: int

    def of(self, amount: int) -> int:
        """Return this share of an amount."""
        return amount * self.end // PARTS - amount * self.begin // PARTS


WHOLE = Share(0, PARTS)


def shares(weights: Sequence[int]) -> tuple[Share, ...]:
    """Return one share per weight, in their order; equal shares if no weight is above 0.

    Args:
        weights: at least one, none below 0.
    """
    weights = weights if any(weights) else [1] * len(weights)
    total = sum(weights)
    ends = (reached * PARTS // total for reached in accumulate(weights, initial=0))
    return tuple(Share(begin, end) for begin, end in pairwise(ends))
