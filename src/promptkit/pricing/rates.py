"""Rates as integers, and the arithmetic on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from promptkit.types import Usage

ALWAYS_FROM: Final = datetime.min.replace(tzinfo=UTC)
ALWAYS_UNTIL: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Band:
    """The rates of requests with more than `above` input tokens.

    Each rate is pico-USD a token, as a numerator over the tariff's `denominator`;
    `request` is a fixed fee in the same measure.
    """

    above: int
    uncached: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    output: int
    reasoning: int
    request: int = 0

    @property
    def dearest_input(self) -> int:
        """The most that one input token can cost, however it is cached."""
        return max(self.uncached, self.cache_read, self.cache_write, self.cache_write_1h)

    @property
    def dearest_output(self) -> int:
        """The most that one output token can cost, thought or said."""
        return max(self.output, self.reasoning)


@dataclass(frozen=True, slots=True)
class Tariff:
    """The rates of a model in one service tier.

    `bands` ascend by `above`, which is -1 in the first; the band of a request's size prices all
    of its tokens (long-context prices apply to the whole request).
    """

    bands: tuple[Band, ...]
    denominator: int
    source: str

    def pico(self, usage: Usage) -> int:
        """The cost in pico-USD: exact, rounded once, half to even (as `round` does a Decimal).

        A usage that contradicts itself (more cached tokens than input) is not refused, since the
        call is already paid: each named bucket is priced in full, which is dearer or equal.
        """
        band = self.bands[0]
        for dearer in self.bands[1:]:
            if usage.input_tokens > dearer.above:
                band = dearer
        cached = usage.cache_read_tokens + usage.cache_write_tokens
        exact = (
            band.request
            + max(0, usage.input_tokens - cached) * band.uncached
            + usage.cache_read_tokens * band.cache_read
            + max(0, usage.cache_write_tokens - usage.cache_write_1h_tokens) * band.cache_write
            + usage.cache_write_1h_tokens * band.cache_write_1h
            + max(0, usage.output_tokens - usage.reasoning_tokens) * band.output
            + usage.reasoning_tokens * band.reasoning
        )
        return exact if self.denominator == 1 else round(Fraction(exact, self.denominator))

    def cache_saved_pico(self, usage: Usage, pico: int) -> int:
        """What the prompt cache saved of a cost, against the same tokens uncached; below 0 where it cost more."""
        if not (usage.cache_read_tokens or usage.cache_write_tokens):
            return 0
        plain = replace(usage, cache_read_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
        return self.pico(plain) - pico

    def ceiling_pico(self, input_tokens: int, output_tokens: int) -> int:
        """The most that any usage within these sizes can cost, rounded up.

        All input may turn out cached or written to the cache (1.25 or 2 times the input rate), and
        a request that proves smaller may fall into any lower band.
        """
        exact = max(
            band.request + input_tokens * band.dearest_input + output_tokens * band.dearest_output
            for band in self._reachable(input_tokens)
        )
        return -(-exact // self.denominator)

    def dearest_input(self, input_tokens: int) -> Fraction:
        """Pico-USD that one input token of such a request can cost at most."""
        return Fraction(max(band.dearest_input for band in self._reachable(input_tokens)), self.denominator)

    def dearest_output(self, input_tokens: int) -> Fraction:
        """Pico-USD that one output token of such a request can cost at most."""
        return Fraction(max(band.dearest_output for band in self._reachable(input_tokens)), self.denominator)

    def _reachable(self, input_tokens: int) -> tuple[Band, ...]:
        return tuple(band for band in self.bands if band.above < max(0, input_tokens))


@dataclass(frozen=True, slots=True)
class RateCard:
    """All tariffs of one model, valid from `valid_from` until just before `valid_until` (UTC).

    `tariffs` is keyed by the tier's name in lower case; None is the standard tier. A tier that
    is not in it has no known price.
    """

    source: str
    tariffs: Mapping[str | None, Tariff]
    valid_from: datetime = ALWAYS_FROM
    valid_until: datetime = ALWAYS_UNTIL

    def holds_at(self, at: datetime) -> bool:
        """Whether the card prices a request made at that time (aware)."""
        return self.valid_from <= at < self.valid_until

    def tariff(self, tier: str | None = None) -> Tariff | None:
        """The rates of a tier, named by its provider's own word; None where they are unknown."""
        found = self.tariffs.get(tier)
        return self.tariffs.get(tier.lower()) if found is None and tier is not None else found

    def pico(self, usage: Usage, tier: str | None = None) -> int | None:
        """The cost in pico-USD; None where the tier's price is unknown."""
        tariff = self.tariff(tier)
        return None if tariff is None else tariff.pico(usage)

    def dearest_input(self, input_tokens: int, tier: str | None = None) -> Fraction | None:
        """Pico-USD a token, at most, of the input of a request of that size."""
        tariff = self.tariff(tier)
        return None if tariff is None else tariff.dearest_input(input_tokens)

    def dearest_output(self, input_tokens: int, tier: str | None = None) -> Fraction | None:
        """Pico-USD a token, at most, of the output of a request of that size."""
        tariff = self.tariff(tier)
        return None if tariff is None else tariff.dearest_output(input_tokens)
