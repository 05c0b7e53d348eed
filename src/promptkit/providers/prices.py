"""Prices: the rate card of each model, from its provider file or genai-prices, and what calls cost."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from promptkit.types import Basis, Cost, Model, PriceOverride, Provider, Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import (
        ModelInfo,
        ModelPrice,
        StartDateConstraint,
        TieredPrices,
        TimeOfDateConstraint,
    )


_KEPT = 4096
"""The most cards that are kept: names of served models come from the network."""

_SNAPSHOT = re.compile(r"[-@:](\d{4}-\d\d-\d\d|\d{8}|\d{4}|\d{3}|latest)")


class _Entry(NamedTuple):
    """A card that was looked up, for one provider and model."""

    provider: Provider
    asked: Model
    card: RateCard | None
    basis: Basis

    def is_valid(self, provider: Provider, asked: Model, at: datetime) -> bool:
        """Return whether the card is still right for a request made at `at`."""
        # An open catalog makes models as they are named: equal objects, not the same one.
        same = self.asked is asked or self.asked == asked
        return same and self.provider is provider and (self.card is None or self.card.is_valid_at(at))


class Prices:
    """The prices of all models, compiled at first use and again when a card's interval ends."""

    __slots__ = ("_entries", "_list")

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, str | None], _Entry] = {}
        self._list: DataSnapshot | None = None

    def card(self, provider: Provider, model: Model, at: datetime) -> RateCard | None:
        """Return the rates of a model for a request made at `at`; None if no source knows it.

        A provider file's own price overrides genai-prices.
        """
        return self._entry(provider, model, model.id, at).card

    def cost(
        self,
        provider: Provider,
        asked: Model,
        usage: Usage | None,
        served_model: str | None,
        tier: str | None,
        at: datetime,
    ) -> Cost | None:
        """Price a reply by the model and tier that it names.

        Args:
            provider: who sent the reply.
            asked: the requested model; its price applies if the served one is unknown or not named,
                and the basis is then ASKED.
            usage: the tokens, or None if the provider did not report them.
            served_model: the reply's name of the model.
            tier: the reply's name of the service tier.
            at: when the request was made.

        Returns:
            The cost, or None if usage or price is unknown.
        """
        entry = self._entry(provider, asked, served_model, at)
        if usage is None or entry.card is None:
            return None
        tariff = entry.card.tariff(tier)
        if tariff is None:
            return None
        pico = tariff.pico(usage)
        return Cost(pico, tariff.source, entry.basis, tariff.cache_saved_pico(usage, pico))

    def max_cost_pico(
        self,
        provider: Provider,
        model: Model,
        input_tokens: int,
        max_output_tokens: int,
        at: datetime,
        tier: str | None = None,
    ) -> int | None:
        """Return the most that a call of these sizes can cost, in pico-USD; None if no price is known.

        It is for the requested model and tier: a provider that serves another may exceed it.
        """
        card = self.card(provider, model, at)
        tariff = None if card is None else card.tariff(tier)
        return None if tariff is None else tariff.max_cost_pico(input_tokens, max_output_tokens)

    def _entry(self, provider: Provider, asked: Model, served: str | None, at: datetime) -> _Entry:
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        key = (provider.name, asked.id, served)
        entry = self._entries.get(key)
        if entry is None or not entry.is_valid(provider, asked, at):
            if len(self._entries) >= _KEPT:
                self._entries.clear()
            entry = self._entries[key] = self._find(provider, asked, served, at)
        return entry

    def _find(self, provider: Provider, asked: Model, served: str | None, at: datetime) -> _Entry:
        if served is not None:
            model = _served_model(provider, asked, _plain(served))
            card = self._compile(provider, model, at)
            if card is not None or model is asked:
                return _Entry(provider, asked, card, Basis.SERVED)
        return _Entry(provider, asked, self._compile(provider, asked, at), Basis.ASKED)

    def _compile(self, provider: Provider, model: Model, at: datetime) -> RateCard | None:
        if model.price is not None:
            return from_override(model.price, f"providers/{provider.name}.toml")
        if provider.price_provider is None:
            return None
        return self._from_list(provider.price_provider, _plain(model.price_ref or model.id), at)

    def _from_list(self, provider_id: str, ref: str, at: datetime) -> RateCard | None:
        # Imported here: it takes 0.15 s at start-up, 0.03 s once an SDK is loaded.
        import genai_prices
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot

        if self._list is None:
            # The bundled table, never one that an updater fetched: the source names a version.
            self._list = DataSnapshot(providers=providers, from_auto_update=False)
        try:
            owner, info = self._list.find_provider_model(ref, None, provider_id, None)
        except LookupError:
            return None
        own = any(info is model for model in owner.models)
        return from_list(info, at, f"genai-prices {genai_prices.__version__}", variants=own)


def _served_model(provider: Provider, asked: Model, served: str) -> Model:
    """Return the provider's model of that name, or the one it is a dated snapshot of; else a model known by name."""
    if served in (asked.id, _plain(asked.id)):
        return asked
    if served in provider.models:
        return provider.models[served]
    for model in (asked, *provider.models.values()):
        # A price that the user sets applies to all snapshots of its model.
        if model.price is not None and _is_snapshot(served, _plain(model.id)):
            return model
    return replace(provider.open_model or Model(""), id=served)


def _is_snapshot(served: str, model: str) -> bool:
    return served.startswith(model) and _SNAPSHOT.fullmatch(served, len(model)) is not None


def _plain(model: str) -> str:
    """Remove Gemini's `models/` prefix, which is not part of the name."""
    return model.removeprefix("models/")


ALWAYS_FROM = datetime.min.replace(tzinfo=UTC)
ALWAYS_UNTIL = datetime.max.replace(tzinfo=UTC)


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
        """The most that one output token can cost, reasoning or text."""
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
        """Return the cost in pico-USD: exact, rounded once, half to even (as `round` does a Decimal).

        A usage that contradicts itself (more cached tokens than input) is not refused, because
        the call is already paid: each bucket is priced in full, which costs more or the same.
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
        """Return what the prompt cache saved, against the same tokens uncached; below 0 if it cost more."""
        if not (usage.cache_read_tokens or usage.cache_write_tokens):
            return 0
        plain = replace(usage, cache_read_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
        return self.pico(plain) - pico

    def max_cost_pico(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that any usage within these sizes can cost, rounded up.

        All input may turn out cached or written to the cache (1.25 or 2 times the input rate), and
        a request that proves smaller may fall into any lower band.
        """
        exact = max(
            band.request + input_tokens * band.dearest_input + output_tokens * band.dearest_output
            for band in self._reachable(input_tokens)
        )
        return -(-exact // self.denominator)

    def dearest_input(self, input_tokens: int) -> Fraction:
        """Return the most that one input token of such a request can cost, in pico-USD."""
        return Fraction(max(band.dearest_input for band in self._reachable(input_tokens)), self.denominator)

    def dearest_output(self, input_tokens: int) -> Fraction:
        """Return the most that one output token of such a request can cost, in pico-USD."""
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

    def is_valid_at(self, at: datetime) -> bool:
        """Return whether the card prices a request made at that time (aware)."""
        return self.valid_from <= at < self.valid_until

    def tariff(self, tier: str | None = None) -> Tariff | None:
        """Return the rates of a tier, by its provider's own name; None if they are unknown."""
        tariff = self.tariffs.get(tier)
        return self.tariffs.get(tier.lower()) if tariff is None and tier is not None else tariff

    def pico(self, usage: Usage, tier: str | None = None) -> int | None:
        """Return the cost in pico-USD; None if the tier's price is unknown."""
        tariff = self.tariff(tier)
        return None if tariff is None else tariff.pico(usage)

    def dearest_input(self, input_tokens: int, tier: str | None = None) -> Fraction | None:
        """Return the most that an input token of a request of that size can cost, in pico-USD."""
        tariff = self.tariff(tier)
        return None if tariff is None else tariff.dearest_input(input_tokens)

    def dearest_output(self, input_tokens: int, tier: str | None = None) -> Fraction | None:
        """Return the most that an output token of a request of that size can cost, in pico-USD."""
        tariff = self.tariff(tier)
        return None if tariff is None else tariff.dearest_output(input_tokens)


_STANDARD = ("standard", "default", "auto", "on_demand")
_DISCOUNTS = ("batch", "flex")

_TIER_KEYS = ("processing", "service_tier", "speed")
"""The words of genai-prices for a tier: OpenAI's flex is a service tier, a batch a processing."""

_PICO_PER_TOKEN = 10**6  # of 1 USD per million tokens
_PICO_PER_REQUEST = 10**9  # of 1 USD per thousand requests


class _Steps(NamedTuple):
    """A rate by the request's size: `base`, then another one above each size."""

    base: Fraction
    above: tuple[tuple[int, Fraction], ...] = ()

    def at(self, above: int) -> Fraction:
        """Return the rate just above that many input tokens."""
        reached = [rate for start, rate in self.above if start <= above]
        return reached[-1] if reached else self.base


def from_override(price: PriceOverride, source: str) -> RateCard:
    """Make the card of a provider file's price: one band, one rate for all cache writes."""
    uncached, output = _steps(price.input_mtok), _steps(price.output_mtok)
    write = uncached if price.cache_write_mtok is None else _steps(price.cache_write_mtok)
    read = uncached if price.cache_read_mtok is None else _steps(price.cache_read_mtok)
    standard = _tariff((uncached, read, write, write, output, output, _Steps(Fraction(0))), source)
    return RateCard(source, _with_fallbacks({None: standard}))


def from_list(info: ModelInfo, at: datetime, source: str, *, variants: bool = True) -> RateCard | None:
    """Make the card of a model of genai-prices for the interval around `at` (aware).

    Args:
        info: the model as genai-prices describes it.
        at: when the request is made.
        source: the source that the cost will name.
        variants: whether tiers apply; they don't for a model that its provider only resells.

    Returns:
        The card, or None if the list has no rate for text input or output.
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
    """Return the contexts of genai-prices by tier, for the current variants that one word can name."""
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
    """Make one band for each size at which any rate changes, all over one common denominator."""
    sizes = sorted({-1, *(start for rate in rates for start, _ in rate.above)})
    table = [[rate.at(size) for rate in rates] for size in sizes]
    denominator = math.lcm(*(rate.denominator for row in table for rate in row))
    bands = tuple(
        Band(size, *(int(rate * denominator) for rate in row)) for size, row in zip(sizes, table, strict=True)
    )
    return Tariff(bands, denominator, source)


def _interval(info: ModelInfo, at: datetime) -> tuple[datetime, datetime]:
    """Return the last and the next time at which any of the model's constraints switches."""
    switches = [instant for constraint in _constraints(info) for instant in _switches(constraint, at)]
    return (
        max((instant for instant in switches if instant <= at), default=ALWAYS_FROM),
        min((instant for instant in switches if instant > at), default=ALWAYS_UNTIL),
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
        for instant in (constraint.start_time, constraint.end_time):
            aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
            yield datetime.combine(day, aware).astimezone(UTC)
