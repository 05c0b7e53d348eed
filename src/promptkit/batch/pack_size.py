"""How many rows to a request pay off, and whether they still do.

Packing saves what the prompts have in common: it is paid once a request instead of once a row. It
costs the words that set the items apart and those that name their results. Where the provider
caches the beginning of prompts, that is cheap already, and packing saves little. Each item that
fails is paid in vain, so packs that fail often are dearer than none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from promptkit.pricing.rates import Tariff
from promptkit.types import Usage

ASK: Final = 130
"""Tokens of what introduces the items, and of the schema around their results."""
ITEM_INPUT: Final = 30
"""Tokens that set an item apart: two marks, its id there and in the schema."""
ITEM_REPLY: Final = 16
"""Tokens that name its result."""
MOST: Final = 10
"""More are never packed by themselves: answers get worse with their place in a long list."""
_INPUT_AT_MOST: Final = 16_000
_OUTPUT_AT_MOST: Final = 4_000
"""Tokens of a pack: short rows only."""
_WORTH: Final = 0.1
"""Less than this share of a row's cost isn't worth it."""
_ENOUGH: Final = 0.95
"""A pack that saves so much of what the largest would is large enough."""
_EVIDENCE: Final = 12
"""Items to have seen before failures count."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """About how many tokens a row has: `shared` with all others, of its `own`, and in its reply.

    `cached`: the provider's prompt cache keeps the shared part.
    """

    shared: int
    own: int
    reply: int
    cached: bool = False

    def usage(self, rows: int) -> Usage:
        """The tokens of a request of so many rows, from the second request on."""
        cached = self.shared if self.cached else 0
        if rows == 1:
            return Usage(self.shared + self.own, self.reply, cached)
        return Usage(
            self.shared + ASK + rows * (self.own + ITEM_INPUT), rows * (self.reply + ITEM_REPLY), cached
        )

    @property
    def most(self) -> int:
        """How many rows go together at most."""
        by_input = (_INPUT_AT_MOST - self.shared) // (self.own + ITEM_INPUT)
        return max(1, min(MOST, by_input, _OUTPUT_AT_MOST // (self.reply + ITEM_REPLY)))


@dataclass(frozen=True, slots=True)
class Size:
    """How many `rows` to a request, and about what a row costs so and alone, in pico-USD."""

    rows: int
    packed_pico: float
    alone_pico: int

    @property
    def saved(self) -> float:
        """The share of a row's cost that is saved."""
        return 1 - self.packed_pico / self.alone_pico if self.alone_pico else 0.0

    def pays(self, seen: int, failed: int) -> bool:
        """Whether packing still saves when so many of the items seen have failed.

        An item that fails costs its part of the pack and then a call of its own, so the saving is
        eaten where the share that fails reaches the share that is saved.
        """
        return seen < _EVIDENCE or failed < self.saved * seen


def choose_size(tariff: Tariff, sizes: Sizes) -> Size:
    """The smallest pack that saves nearly all that packing can; 1 row where it saves too little."""
    return _chosen(tariff.pico, sizes)


def _chosen(pico: Callable[[Usage], int], sizes: Sizes) -> Size:
    alone = pico(sizes.usage(1))
    every = [Size(rows, pico(sizes.usage(rows)) / rows, alone) for rows in range(1, sizes.most + 1)]
    best = max(size.saved for size in every)
    if best < _WORTH:
        return every[0]
    return next(size for size in every if size.saved >= best * _ENOUGH)
