"""Costs equal genai-prices' own, to the pico-dollar."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from promptkit.providers.prices import Prices, Tariff
from promptkit.types import PICO_PER_USD, Model, PriceOverride, Provider, Usage

PROVIDERS: Final = ("openai", "anthropic", "google", "mistral", "groq", "deepseek", "openrouter")
MODELS: Final = [(owner.id, info.id) for owner in providers if owner.id in PROVIDERS for info in owner.models]
CONTEXTS: Final[dict[str | None, dict[str, str] | None]] = {
    None: None,
    "default": {"service_tier": "default"},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
SIZES: Final = (0, 1, 999, 100_000, 100_001, 128_001, 200_000, 200_001, 272_000, 272_001, 1_000_001)
BOOK: Final = Prices()


def provider(price_provider: str | None) -> Provider:
    name = price_provider or "local"
    return Provider(name, adapter="openai", api="chat", sdk="openai", price_provider=price_provider)


KNOWN: Final = {name: provider(name) for name in PROVIDERS}


def expected_pico(owner: str, model: str, usage: Usage, tier: str | None, at: datetime) -> int:
    priced = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        ),
        model,
        provider_id=owner,
        genai_request_timestamp=at,
        price_context=CONTEXTS[tier],
    )
    return int((priced.total_price * PICO_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def edges(tariff: Tariff) -> list[int]:
    """The sizes at which rates step, and one token more."""
    return [band.above + more for band in tariff.bands[1:] for more in (0, 1)]


@st.composite
def usages(draw: st.DrawFn, *, inputs: int = 1_500_000, outputs: int = 200_000) -> Usage:
    size = draw(st.sampled_from(SIZES) | st.integers(0, inputs))
    size = min(size, inputs)
    read = draw(st.integers(0, size))
    write = draw(st.integers(0, size - read))
    output = draw(st.integers(0, outputs))
    return Usage(
        input_tokens=size,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=draw(st.integers(0, write)),
        reasoning_tokens=draw(st.integers(0, output)),
    )


times = st.datetimes(datetime(2024, 6, 1), datetime(2027, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001
tiers = st.sampled_from(list(CONTEXTS))


@pytest.mark.parametrize("owner", PROVIDERS)
def test_every_model_is_priced_as_genai_prices_does(owner: str) -> None:
    """Each model with rates for text, in each tier that it knows, on both sides of long context."""
    at = datetime(2026, 11, 21, 12, tzinfo=UTC)
    priced = 0
    for model in (name for of, name in MODELS if of == owner):
        card = BOOK.card(KNOWN[owner], Model(model), at)
        for tier in CONTEXTS if card else ():
            tariff = None if card is None else card.tariff(tier)
            for size in () if tariff is None else (1200, *edges(tariff)):
                usage = Usage(size, 700, size // 2, size // 3, size // 7, 333)
                assert tariff is not None
                assert tariff.pico(usage) == expected_pico(owner, model, usage, tier, at), (
                    model,
                    tier,
                    usage,
                )
                priced += 1
    assert priced > 8


@given(st.sampled_from(MODELS), usages(), tiers, times)
def test_any_usage_in_any_tier_at_any_time(
    named: tuple[str, str], usage: Usage, tier: str | None, at: datetime
) -> None:
    """Caches, 1 h writes, reasoning, long context, batch and flex, price changes, hours of the day."""
    owner, model = named
    card = BOOK.card(KNOWN[owner], Model(model), at)
    if card is not None:
        assert card.is_valid_at(at)
        assert card.pico(usage, tier) in {None, expected_pico(owner, model, usage, tier, at)}


@given(usages(), times, st.sampled_from(["deepseek-chat", "deepseek-v4-pro", "deepseek-flash"]))
def test_prices_by_the_hour(usage: Usage, at: datetime, model: str) -> None:
    """One book asked back and forth in time never answers with a card that has run out."""
    cost = BOOK.cost(KNOWN["deepseek"], Model(model), usage, model, None, at)
    assert cost is not None
    assert cost.pico == expected_pico("deepseek", model, usage, None, at)


@given(st.sampled_from(MODELS), usages(), usages(), tiers, times)
def test_the_ceiling_is_never_passed(
    named: tuple[str, str], usage: Usage, room: Usage, tier: str | None, at: datetime
) -> None:
    """Any usage within the sizes costs at most the ceiling: however cached, in whichever band."""
    owner, name = named
    model = Model(name)
    inputs = usage.input_tokens + room.input_tokens
    outputs = usage.output_tokens + room.output_tokens
    ceiling = BOOK.max_cost_pico(KNOWN[owner], model, inputs, outputs, at, tier)
    cost = BOOK.cost(KNOWN[owner], model, usage, name, tier, at)
    assert (cost is None) == (ceiling is None)
    assert cost is None or ceiling is None or cost.pico <= ceiling


@given(
    usages(inputs=999, outputs=999),
    st.lists(st.decimals(0, 10, places=8), min_size=4, max_size=4),
)
def test_an_override_is_exact_too(usage: Usage, rates: list[Decimal]) -> None:
    """Rates finer than a pico-dollar a token are summed exactly and rounded once, half to even."""
    fine = Model("own", price=PriceOverride(*rates))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    cost = BOOK.cost(provider(None), fine, usage, "own", None, at)
    plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    counts = (plain, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    exact = sum((rate * count for rate, count in zip(rates, counts, strict=True)), Decimal(0))
    assert cost is not None
    assert cost.pico == int((exact * 10**6).to_integral_value(ROUND_HALF_EVEN))
    ceiling = BOOK.max_cost_pico(provider(None), fine, usage.input_tokens, usage.output_tokens, at)
    assert ceiling is not None
    assert ceiling >= cost.pico


@pytest.mark.parametrize(("tokens", "pico"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_halves_round_to_even(tokens: int, pico: int) -> None:
    """0.5 pico-USD a token: 0.5, 1.5, 2.5 and 3.5 round as Python rounds a Decimal."""
    model = Model("own", price=PriceOverride(Decimal("0.0000005"), Decimal(0)))
    card = BOOK.card(provider(None), model, datetime(2026, 1, 1, tzinfo=UTC))
    assert card is not None
    assert card.pico(Usage(tokens, 0)) == pico


@pytest.mark.parametrize(
    ("usage", "saved_usd"),
    [
        (Usage(10_000, 10), 0),
        (Usage(10_000, 10, cache_read_tokens=8_000), Decimal("0.0072")),
        (Usage(10_000, 10, cache_write_tokens=8_000), Decimal("-0.002")),
        (Usage(10_000, 10, cache_read_tokens=8_000, cache_write_tokens=2_000), Decimal("0.0067")),
    ],
)
def test_what_a_cache_saved_is_the_difference_to_uncached_input(usage: Usage, saved_usd: Decimal) -> None:
    """At 1 USD a million, reads at 0.1 and writes at 1.25; writing alone costs more than it saves."""
    price = PriceOverride(
        Decimal(1), Decimal(5), cache_read_mtok=Decimal("0.1"), cache_write_mtok=Decimal("1.25")
    )
    cost = BOOK.cost(provider(None), Model("m", price=price), usage, None, None, datetime.now(UTC))
    assert cost is not None
    assert cost.cache_saved_pico == saved_usd * PICO_PER_USD
