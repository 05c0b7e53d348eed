"""Price lists turned into rate cards.

Tiers. genai-prices silently gives the standard price for a tier that it has no rate for. Here:
`batch` and `flex` are discounts, so the standard price is dearer or equal: it is taken, and the
cost's source says so. Any other tier without a rate (`priority`, `fast`, `scale`...) may be dearer
than standard: its price is unknown, and the caller charges the ceiling.

A model with no rate for its input or its output is unknown too, not free: genai-prices leaves
the prices of free, retired and audio-only models empty. A price of 0 is said as `input_mtok = 0`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

from promptkit.types import PriceOverride

from .rates import ALWAYS_FROM, ALWAYS_UNTIL, Band, RateCard, Tariff

if TYPE_CHECKING:  # loading genai-prices costs start-up: only the price list itself does it
    from genai_prices.types import (
        ModelInfo,
        ModelPrice,
        StartDateConstraint,
        TieredPrices,
        TimeOfDateConstraint,
    )

_STANDARD: Final = ("standard", "default", "auto", "on_demand")
_DISCOUNTS: Final = ("batch", "flex")
_TIER_KEYS: Final = ("processing", "service_tier", "speed")
"""What genai-prices calls a tier, by provider: OpenAI's flex is a service tier, a batch a processing."""

_PICO_PER_TOKEN: Final = 10**6  # of 1 USD per million tokens
_PICO_PER_REQUEST: Final = 10**9  # of 1 USD per thousand requests


class _Steps(NamedTuple):
    """One rate over the request's size: `base`, then from above each size another."""

    base: Fraction
    above: tuple[tuple[int, Fraction], ...] = ()

    def at(self, above: int) -> Fraction:
        """The rate just above that many input tokens."""
        reached = [rate for start, rate in self.above if start <= above]
        return reached[-1] if reached else self.base


def from_override(price: PriceOverride, source: str) -> RateCard:
    """The card of a price that a provider file states: one band, one rate for all cache writes."""
    uncached, output = _steps(price.input_mtok), _steps(price.output_mtok)
    write = uncached if price.cache_write_mtok is None else _steps(price.cache_write_mtok)
    read = uncached if price.cache_read_mtok is None else _steps(price.cache_read_mtok)
    standard = _tariff((uncached, read, write, write, output, output, _Steps(Fraction(0))), source)
    return RateCard(source, _with_fallbacks({None: standard}))


def from_list(info: ModelInfo, at: datetime, source: str, *, variants: bool = True) -> RateCard | None:
    """The card of a model of genai-prices for the interval around `at` (aware).

    Args:
        info: the model as genai-prices describes it.
        at: when the request is made.
        source: what the cost will name as its source.
        variants: whether tiers apply; they don't to a model that its provider only resells.

    Returns:
        The card, or None where the list has no rate for text in or out.
    """
    standard = _from_prices(info.get_prices(at), source)
    if standard is None:
        return None
    tariffs: dict[str | None, Tariff] = {None: standard}
    for tier, context in _tiers(info, at).items() if variants else ():
        priced = _from_prices(info.get_prices(at, context), source)
        tariffs[tier] = standard if priced is None else priced
    valid_from, valid_until = _interval(info, at)
    return RateCard(source, _with_fallbacks(tariffs), valid_from, valid_until)


def _with_fallbacks(tariffs: dict[str | None, Tariff]) -> Mapping[str | None, Tariff]:
    standard = tariffs[None]
    for tier in _STANDARD:
        tariffs.setdefault(tier, standard)
    for tier in _DISCOUNTS:
        note = f"{standard.source}, standard rates: none known for {tier}"
        tariffs.setdefault(tier, Tariff(standard.bands, standard.denominator, note))
    return tariffs


def _tiers(info: ModelInfo, at: datetime) -> dict[str, dict[str, str]]:
    """Tier name -> genai-prices' context, for the variants in force that one word can name."""
    contexts: dict[str, dict[str, str]] = {}
    for variant in info.price_variants or ():
        if variant.constraint is not None and not variant.constraint.active(at):
            continue
        for key, value in variant.when.items():
            if key in _TIER_KEYS and len(variant.when) == 1:
                contexts.setdefault(value.lower(), {})[key] = value
    return contexts


def _from_prices(prices: ModelPrice, source: str) -> Tariff | None:
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    uncached, output = _steps(prices.input_mtok), _steps(prices.output_mtok)
    write = _steps(_first(prices.cache_write_5m_mtok, prices.cache_write_mtok, prices.input_mtok))
    rates = (
        uncached,
        _steps(_first(prices.cache_read_mtok, prices.input_mtok)),
        write,
        _steps(_first(prices.cache_write_1h_mtok, prices.cache_write_mtok, prices.input_mtok)),
        output,
        _steps(_first(prices.output_reasoning_mtok, prices.output_mtok)),
        _steps(_first(prices.requests_kcount, Decimal(0)), _PICO_PER_REQUEST),
    )
    return _tariff(rates, source)


def _first(*prices: Decimal | TieredPrices | None) -> Decimal | TieredPrices:
    return next(price for price in prices if price is not None)


def _steps(price: Decimal | TieredPrices, pico: int = _PICO_PER_TOKEN) -> _Steps:
    if isinstance(price, Decimal):
        return _Steps(Fraction(price) * pico)
    return _Steps(
        Fraction(price.base) * pico,
        tuple((tier.start, Fraction(tier.price) * pico) for tier in price.tiers),
    )


def _tariff(rates: Sequence[_Steps], source: str) -> Tariff:
    """One band for each size at which any rate steps, all over one common denominator."""
    sizes = sorted({-1, *(start for rate in rates for start, _ in rate.above)})
    table = [[rate.at(size) for rate in rates] for size in sizes]
    denominator = math.lcm(*(rate.denominator for row in table for rate in row))
    bands = tuple(
        Band(size, *(int(rate * denominator) for rate in row)) for size, row in zip(sizes, table, strict=True)
    )
    return Tariff(bands, denominator, source)


def _interval(info: ModelInfo, at: datetime) -> tuple[datetime, datetime]:
    """From the last to the next moment at which any of the model's constraints switches."""
    switches = [moment for constraint in _constraints(info) for moment in _switches(constraint, at)]
    return (
        max((moment for moment in switches if moment <= at), default=ALWAYS_FROM),
        min((moment for moment in switches if moment > at), default=ALWAYS_UNTIL),
    )


def _constraints(info: ModelInfo) -> Iterator[StartDateConstraint | TimeOfDateConstraint]:
    conditional = info.prices if isinstance(info.prices, list) else ()
    for price in (*conditional, *(info.price_variants or ())):
        if price.constraint is not None:
            yield price.constraint


def _switches(constraint: StartDateConstraint | TimeOfDateConstraint, at: datetime) -> Iterator[datetime]:
    from genai_prices.types import StartDateConstraint

    if isinstance(constraint, StartDateConstraint):
        yield datetime.combine(constraint.start_date, time(tzinfo=UTC))
        return
    # A daily window; its clock may have another zone than UTC, hence a day more on each side.
    for days in (-2, -1, 0, 1, 2):
        day = at.date() + timedelta(days=days)
        for moment in (constraint.start_time, constraint.end_time):
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            yield datetime.combine(day, aware).astimezone(UTC)
