"""Which price a call gets, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

import pytest

from promptkit.providers import prices as book_module
from promptkit.providers.prices import Band, Prices, RateCard, Tariff
from promptkit.types import Basis, Cost, Model, PriceOverride, Provider, Usage

AT: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPENAI: Final = Provider("openai", "openai", "responses", "openai", price_provider="openai")
ANTHROPIC: Final = Provider("anthropic", "anthropic", "messages", "anthropic", price_provider="anthropic")
GEMINI: Final = Provider("gemini", "gemini", "generate", "google-genai", price_provider="google")
OLLAMA: Final = Provider("ollama", "openai", "chat", "openai")
OWN: Final = PriceOverride(Decimal(3), Decimal(7))
USAGE: Final = Usage(1000, 100)


def cost(
    provider: Provider, asked: Model, served: str | None, tier: str | None = None, usage: Usage | None = USAGE
) -> Cost | None:
    return Prices().cost(provider, asked, usage, served, tier, AT)


@pytest.mark.parametrize(
    ("provider", "model", "pico"),
    [
        (OPENAI, "gpt-6-luna", 1000 * 100_000 + 100 * 500_000),
        (ANTHROPIC, "claude-sonnet-5-5", 1000 * 2_000_000 + 100 * 10_000_000),
        (GEMINI, "gemini-2.5-flash-lite", 1000 * 100_000 + 100 * 400_000),
        (GEMINI, "models/gemini-2.5-flash-lite", 1000 * 100_000 + 100 * 400_000),
    ],
)
def test_known_prices(provider: Provider, model: str, pico: int) -> None:
    """A handful of list prices by hand; Gemini's `models/` prefix is no part of the name."""
    assert cost(provider, Model(model), model) == Cost(pico, "genai-prices 0.2.3", Basis.SERVED)


def test_long_context_prices_the_whole_request() -> None:
    """Above the threshold every token costs the dearer rate, output too."""
    assert cost(OPENAI, Model("gpt-6-luna"), "gpt-6-luna", usage=Usage(272_001, 10)) == Cost(
        272_001 * 200_000 + 10 * 750_000, "genai-prices 0.2.3"
    )


@pytest.mark.parametrize("model", ["never-heard-of", "whisper-1", "text-embedding-3-small"])
def test_unknown_is_none_never_zero(model: str) -> None:
    """A model that is unknown, or listed without a rate for text in and out, has no price."""
    prices = Prices()
    assert prices.card(OPENAI, Model(model), AT) is None
    assert prices.cost(OPENAI, Model(model), USAGE, model, None, AT) is None
    assert prices.max_cost_pico(OPENAI, Model(model), 10, 10, AT) is None


def test_a_free_model_with_an_empty_price_is_unpriced() -> None:
    """genai-prices leaves free models empty; a price of 0 is said in the provider file."""
    assert cost(GEMINI, Model("gemma-3"), "gemma-3") is None
    free = Model("gemma-3", price=PriceOverride(Decimal(0), Decimal(0)))
    assert cost(GEMINI, free, "gemma-3") == Cost(0, "providers/gemini.toml")


def test_no_usage_no_cost() -> None:
    """A reply that does not say its tokens has no known cost."""
    assert cost(OPENAI, Model("gpt-6-luna"), "gpt-6-luna", usage=None) is None


def test_a_provider_without_a_price_list_has_only_its_own_prices() -> None:
    """Ollama, vLLM and the embedded model are priced by their provider file or not at all."""
    assert cost(OLLAMA, Model("gpt-6-luna"), "gpt-6-luna") is None
    assert cost(OLLAMA, Model("m", price=OWN), "m") == Cost(3_700_000_000, "providers/ollama.toml")


def test_price_ref_names_the_model_for_the_list() -> None:
    """`price_ref` is what genai-prices calls the model."""
    assert cost(OPENAI, Model("my-deployment", price_ref="gpt-6-luna"), "my-deployment") == Cost(
        150_000_000, "genai-prices 0.2.3"
    )


def test_override_cache_rates_default_to_the_input_rate() -> None:
    """Cached tokens cost the input rate where the provider file names no other."""
    usage = Usage(1000, 0, cache_read_tokens=400, cache_write_tokens=300, cache_write_1h_tokens=100)
    assert cost(OLLAMA, Model("m", price=OWN), "m", usage=usage) == Cost(
        3_000_000_000, "providers/ollama.toml"
    )


SERVED: Final[list[tuple[Model, str | None, int, Basis]]] = [
    (Model("gpt-6-luna"), "gpt-6-luna", 150, Basis.SERVED),
    (Model("gpt-6-luna"), None, 150, Basis.ASKED),
    (Model("gpt-6-luna"), "some-internal-name", 150, Basis.ASKED),
    (Model("gpt-6-luna"), "gpt-6.1-sol", 3000, Basis.SERVED),
    (Model("gpt-6-luna"), "listed", 3700, Basis.SERVED),
    (Model("gpt-6-luna"), "listed-2026-10-01", 3700, Basis.SERVED),
    (Model("gpt-6-luna"), "listed-20261001", 3700, Basis.SERVED),
    (Model("gpt-6-luna"), "listed-large", 150, Basis.ASKED),
    (Model("gpt-6-luna"), "unpriced", 150, Basis.ASKED),
    (Model("gpt-6-luna", price=OWN), "gpt-6-luna-2026-09-01", 3700, Basis.SERVED),
    (Model("gpt-6-luna", price=OWN), "gpt-6.1-sol", 3000, Basis.SERVED),
]


@pytest.mark.parametrize(("asked", "served", "micro", "basis"), SERVED)
def test_the_served_model_sets_the_price(asked: Model, served: str | None, micro: int, basis: Basis) -> None:
    """By the model that the reply names, else the one asked for, and the basis says which.

    A price from the provider file holds for dated snapshots of its model.
    """
    models = {"listed": Model("listed", price=OWN), "unpriced": Model("unpriced")}
    priced = cost(replace(OPENAI, models=models), asked, served)
    assert priced is not None
    assert (priced.pico, priced.basis) == (micro * 10**6, basis)


TIERS: Final[list[tuple[Provider, str, str | None, int | None, str]]] = [
    (OPENAI, "gpt-6-luna", None, 150, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "default", 150, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "auto", 150, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "flex", 75, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "FLEX", 75, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "batch", 75, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "priority", 300, "genai-prices 0.2.3"),
    (OPENAI, "gpt-6-luna", "scale", None, ""),
    (ANTHROPIC, "claude-haiku-5-5", "standard", 150, "genai-prices 0.2.3"),
    (ANTHROPIC, "claude-haiku-5-5", "batch", 75, "genai-prices 0.2.3"),
    (ANTHROPIC, "claude-haiku-5-5", "priority", None, ""),
    (
        ANTHROPIC,
        "claude-haiku-5-5",
        "flex",
        150,
        "genai-prices 0.2.3, standard rates: none known for flex",
    ),
]


@pytest.mark.parametrize(("provider", "model", "tier", "micro", "source"), TIERS)
def test_tiers(provider: Provider, model: str, tier: str | None, micro: int | None, source: str) -> None:
    """A discount without a rate costs the standard price and says so; any other has no known price."""
    expected = None if micro is None else Cost(micro * 10**6, source)
    assert cost(provider, Model(model), model, tier) == expected
    ceiling = Prices().max_cost_pico(provider, Model(model), 1000, 100, AT, tier)
    assert (ceiling is None) == (micro is None)


def test_a_resold_model_has_no_tiers_of_its_maker() -> None:
    """Azure sells OpenAI's models: the list prices them from OpenAI's table, at standard rates only."""
    azure, model = replace(OPENAI, price_provider="azure"), Model("gpt-6-luna")
    batch = cost(azure, model, model.id, "batch")
    assert batch == Cost(150_000_000, "genai-prices 0.2.3, standard rates: none known for batch")
    assert cost(azure, model, model.id, "priority") is None


def test_a_card_ends_where_a_price_changes() -> None:
    """gpt-6-luna's variants began on 2026-10-14: the card before that day is another one."""
    prices, model = Prices(), Model("gpt-6-luna")
    card = prices.card(OPENAI, model, AT)
    assert card is not None
    assert card.valid_from == datetime(2026, 10, 14, tzinfo=UTC)
    before = prices.card(OPENAI, model, card.valid_from - timedelta(microseconds=1))
    assert before is not None
    assert before.valid_until == card.valid_from
    fresh = Prices().card(OPENAI, model, card.valid_from)
    assert fresh is not None
    assert fresh.valid_from == card.valid_from


def test_a_naive_time_is_utc() -> None:
    """As in genai-prices."""
    card = Prices().card(OPENAI, Model("gpt-6-luna"), AT.replace(tzinfo=None))
    assert card is not None
    assert card.is_valid_at(AT)


def test_an_answer_is_kept_for_its_very_model() -> None:
    """A provider read again with another price is not answered from the old one."""
    prices = Prices()
    first, second = Model("m", price=OWN), Model("m", price=PriceOverride(Decimal(1), Decimal(1)))
    assert prices.card(OLLAMA, first, AT) is prices.card(OLLAMA, first, AT)
    assert prices.card(OLLAMA, second, AT) != prices.card(OLLAMA, first, AT)


def test_an_open_provider_prices_whatever_it_serves() -> None:
    """Its one price holds for any model of it; models made as they are named find the same card."""
    vllm = replace(OLLAMA, open_models=True, open_model=Model("", price=OWN))
    prices = Prices()
    asked = [replace(Model("", price=OWN), id="vendor/model") for _ in range(2)]
    assert prices.card(vllm, asked[0], AT) is prices.card(vllm, asked[1], AT)
    priced = prices.cost(vllm, asked[0], USAGE, "/models/vendor.gguf", None, AT)
    assert priced == Cost(3_700_000_000, "providers/ollama.toml", Basis.SERVED)


def test_made_up_model_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names come from the network: past a bound the book forgets them."""
    monkeypatch.setattr(book_module, "_KEPT", 8)
    prices = Prices()
    for number in range(100):
        prices.cost(OLLAMA, Model("m", price=OWN), USAGE, f"served-{number}", None, AT)
    assert len(prices._entries) <= 8  # pyright: ignore[reportPrivateUsage]


def test_dearest_rates_by_size() -> None:
    """The dearest rate counts cache writes, and long context only where the size can reach it."""
    card = Prices().card(OPENAI, Model("gpt-6-luna"), AT)
    assert card is not None
    assert card.dearest_input(272_000) == 125_000
    assert card.dearest_input(272_001) == 250_000
    assert card.dearest_output(272_000) == 500_000
    assert card.dearest_output(272_001, "flex") == 375_000
    assert card.dearest_input(1, "scale") is None
    assert card.dearest_output(1, "scale") is None
    assert card.pico(USAGE, "scale") is None


def test_a_usage_that_contradicts_itself_is_priced_in_full() -> None:
    """More cached tokens than input: no bucket goes below nothing, none is left out."""
    tariff = Tariff((Band(-1, 5, 1, 7, 11, 13, 17, request=100),), 1, "test")
    usage = Usage(
        10, 1, cache_read_tokens=20, cache_write_tokens=1, cache_write_1h_tokens=2, reasoning_tokens=3
    )
    assert tariff.pico(usage) == 100 + 20 * 1 + 2 * 11 + 3 * 17


def test_a_fee_for_each_request_counts_in_the_ceiling() -> None:
    """Some hosts charge a fixed fee a request."""
    tariff = Tariff((Band(-1, 5, 1, 7, 11, 13, 17, request=100),), 2, "test")
    assert tariff.max_cost_pico(10, 10) == (100 + 110 + 170) // 2
    card = RateCard("test", {None: tariff})
    assert card.dearest_input(1) == Fraction(11, 2)
    assert card.dearest_output(0) == Fraction(17, 2)


LAZY: Final = """
import sys
from datetime import datetime, UTC
from decimal import Decimal

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"network: {event}")

sys.addaudithook(watch)
from promptkit.providers.prices import Prices
from promptkit.types import Model, PriceOverride, Provider, Usage
local = Provider("local", "local", "chat", "xllamacpp")
free = Model("m", price=PriceOverride(Decimal(0), Decimal(0)))
prices, at = Prices(), datetime.now(UTC)
assert prices.cost(local, free, Usage(1, 1), "m", None, at).pico == 0
assert "genai_prices" not in sys.modules
openai = Provider("openai", "openai", "chat", "openai", price_provider="openai")
assert prices.max_cost_pico(openai, Model("gpt-6-luna"), 1, 1, at) > 0
assert "genai_prices" in sys.modules
"""


def test_the_price_list_is_loaded_when_needed_and_never_fetched() -> None:
    """A local call loads no price list; one that needs it opens no socket."""
    subprocess.run([sys.executable, "-W", "error", "-c", LAZY], check=True)  # noqa: S603 - our own script
