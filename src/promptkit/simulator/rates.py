"""The simulator's own price list: literal integers, pico-USD (1e-12 USD) a token.

One dollar per million tokens is 1_000_000 pico-USD a token. The figures were copied by hand
from the public price pages as genai-prices 0.2.3 lists them on 2026-11-21; nothing here is
computed from promptkit's pricing, so that a bill and a ledger can contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one reply took. The parts of `input` are disjoint; `output` includes `reasoning`."""

    uncached: int
    output: int
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    @property
    def input(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-USD a token. `write` is the short cache write (5 or 30 minutes), `write_1h` the long one."""

    input: int
    output: int
    read: int
    write: int = 0
    write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Card:
    """The rates of a model: `long` holds for a whole request of more than `above` input tokens."""

    rates: Rates
    long: Rates | None = None
    above: int = 0
    batch_halves_reads: bool = True
    tiers: Mapping[str, tuple[int, int]] | None = None
    """Which service tiers it sells, as a fraction of the standard rate."""


_OPENAI_TIERS: Final = {"flex": (1, 2), "batch": (1, 2), "priority": (2, 1), "fast": (2, 1)}
_ANTHROPIC_TIERS: Final = {"batch": (1, 2)}
_GEMINI_TIERS: Final = {"flex": (1, 2), "batch": (1, 2)}

_CARDS: Final[Mapping[tuple[str, str], Card]] = {
    ("openai", "gpt-6-luna"): Card(
        Rates(100_000, 500_000, 10_000, 125_000),
        Rates(200_000, 750_000, 20_000, 250_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("openai", "gpt-6.1-terra"): Card(
        Rates(1_000_000, 5_000_000, 50_000, 1_250_000),
        Rates(2_000_000, 7_500_000, 100_000, 2_500_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("openai", "gpt-6.1-sol"): Card(
        Rates(2_000_000, 10_000_000, 100_000, 2_500_000),
        Rates(4_000_000, 15_000_000, 200_000, 5_000_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("openai", "gpt-6-astra"): Card(
        Rates(10_000_000, 50_000_000, 1_000_000, 12_500_000),
        Rates(20_000_000, 75_000_000, 2_000_000, 25_000_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("anthropic", "claude-haiku-5-5"): Card(
        Rates(100_000, 500_000, 10_000, 125_000, 200_000),
        Rates(500_000, 2_500_000, 50_000, 625_000, 1_000_000),
        100_000,
        tiers=_ANTHROPIC_TIERS,
    ),
    ("anthropic", "claude-sonnet-5-5"): Card(
        Rates(2_000_000, 10_000_000, 100_000, 2_500_000, 4_000_000), tiers=_ANTHROPIC_TIERS
    ),
    ("anthropic", "claude-opus-5-5"): Card(
        Rates(4_000_000, 20_000_000, 200_000, 5_000_000, 8_000_000), tiers=_ANTHROPIC_TIERS
    ),
    ("gemini", "gemini-2.5-flash-lite"): Card(
        Rates(100_000, 400_000, 10_000), batch_halves_reads=False, tiers=_GEMINI_TIERS
    ),
    ("gemini", "gemini-3.1-pro-preview"): Card(
        Rates(2_000_000, 12_000_000, 200_000),
        Rates(4_000_000, 18_000_000, 400_000),
        200_000,
        batch_halves_reads=False,
        tiers=_GEMINI_TIERS,
    ),
    ("gemini", "gemini-3.8-flash"): Card(Rates(750_000, 3_750_000, 75_000), tiers=_GEMINI_TIERS),
}

_INTRODUCTION_ENDS: Final = date(2027, 1, 1)
_AFTER_INTRODUCTION: Final[Mapping[tuple[str, str], Card]] = {
    ("gemini", "gemini-3.8-flash"): Card(Rates(1_500_000, 7_500_000, 150_000), tiers=_GEMINI_TIERS),
}


def priced_models() -> tuple[tuple[str, str], ...]:
    """Every (provider, model) of the list."""
    return tuple(_CARDS)


def card_of(provider: str, model: str, on: date) -> Card | None:
    """The card of a model on a day; None where the list doesn't know it."""
    later = _AFTER_INTRODUCTION.get((provider, model)) if on >= _INTRODUCTION_ENDS else None
    return later or _CARDS.get((provider, model))


def price(card: Card, tokens: Tokens, tier: str | None = None) -> int | None:
    """What `tokens` cost in pico-USD; None where the card names its tiers and not this one."""
    if tier is not None and card.tiers is not None and tier not in card.tiers:
        return None
    rates = card.long if card.long is not None and tokens.input > card.above else card.rates
    reads = tokens.cache_read * rates.read
    rest = (
        tokens.uncached * rates.input
        + tokens.cache_write_5m * rates.write
        + tokens.cache_write_1h * rates.write_1h
        + tokens.output * rates.output
    )
    times, over = (card.tiers or {}).get(tier or "", (1, 1))
    if tier == "batch" and not card.batch_halves_reads:
        return reads + rest * times // over
    return (reads + rest) * times // over
