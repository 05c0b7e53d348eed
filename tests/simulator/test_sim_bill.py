"""The bill: literal rates, tiers, caches, and the same figures as the replies tell."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_kit import FORMS, GOOGLE_WARNS, Clients, clients_of, said, said_stream

from promptkit.simulator.bill import Bill
from promptkit.simulator.models import Card, Rates, Tokens, card_of, price, priced_models
from promptkit.simulator.prompt_cache import CacheBreakpoint, CacheLookup, PrefixCache
from promptkit.simulator.scenario import ModelRule, Scenario
from promptkit.simulator.server import Simulator

pytestmark = GOOGLE_WARNS

IDS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
NOVEMBER, NEW_YEAR = datetime(2026, 11, 22, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)
TIERS: dict[str, tuple[str | None, ...]] = {
    "openai": (None, "flex", "batch", "priority"),
    "anthropic": (None, "batch"),
    "gemini": (None, "batch"),
}


def by_the_library(provider: str, model: str, tokens: Tokens, tier: str | None, at: datetime) -> int:
    usage = Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write_5m + tokens.cache_write_1h,
        **({"cache_write_1h_tokens": tokens.cache_write_1h} if provider == "anthropic" else {}),
    )
    context = {None: {}, "batch": {"processing": "batch"}}.get(tier, {"service_tier": tier or ""})
    found = calc_price(
        usage, model, provider_id=IDS[provider], genai_request_timestamp=at, price_context=context
    )
    return int((found.total_price * 10**12).to_integral_value(ROUND_HALF_EVEN))


@pytest.mark.parametrize("at", [NOVEMBER, NEW_YEAR])
@pytest.mark.parametrize(("provider", "model"), priced_models())
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_literal_rates_are_those_of_the_price_list(
    provider: str, model: str, at: datetime, data: st.DataObject
) -> None:
    """For every model, size, tier and day the bill equals genai-prices to the pico-dollar."""
    sizes = st.integers(0, 400_000)
    writes = sizes if provider != "gemini" else st.just(0)
    long_writes = sizes if provider == "anthropic" else st.just(0)
    tokens = Tokens(
        data.draw(sizes), data.draw(sizes), data.draw(sizes), data.draw(writes), data.draw(long_writes)
    )
    tier = data.draw(st.sampled_from(TIERS[provider]))
    card = card_of(provider, model, at.date())
    assert card is not None
    assert price(card, tokens, tier) == by_the_library(provider, model, tokens, tier, at)


def test_flex_halves_gemini_too() -> None:
    """Google sells flex at half; genai-prices has no rate for it yet, so this stands by itself."""
    card = card_of("gemini", "gemini-2.5-flash-lite", date(2026, 11, 22))
    assert card is not None
    assert price(card, Tokens(1000, 1000, 1000)) == 510_000_000
    assert price(card, Tokens(1000, 1000, 1000), "flex") == 255_000_000
    assert price(card, Tokens(1000, 1000, 1000), "priority") is None


def test_an_unknown_model_is_unpriced_and_an_override_wins() -> None:
    """No rate is None, never 0; a scenario's own rates win over the list."""
    bill = Bill({("openai", "gpt-6-luna"): Card(Rates(7, 11, 3))})
    on = date(2026, 11, 22)
    assert bill.price("openai", "gpt-2", Tokens(5, 5), None, on) is None
    assert bill.price("openai", "gpt-6-luna", Tokens(2, 3, 5), "flex", on) == 2 * 7 + 3 * 11 + 5 * 3


@pytest.mark.parametrize("form", FORMS)
async def test_the_bill_is_the_sum_of_what_the_replies_tell(clients: Clients, form: str) -> None:
    """Totals, providers, models and lines agree with the usage in the replies."""
    first = said(form, await clients.ask(form))
    second = await said_stream(form, await clients.ask(form, "Another brief", **stream_of(form)))
    bill: Any = clients.sim.bill()
    assert bill["input_tokens"] == first.input + second.input
    assert bill["output_tokens"] == first.output + second.output
    assert bill["requests"] == len(bill["lines"]) == 2
    assert bill["total_pico"] == sum(line["pico"] for line in bill["lines"])
    (provider,) = bill["providers"].values()
    assert provider["total_pico"] == bill["total_pico"]
    assert all(line["delivered"] and line["billed"] for line in bill["lines"])
    assert [line["request_id"] for line in bill["lines"]] == [
        row["request_id"] for row in clients.sim.requests()
    ]


def stream_of(form: str) -> dict[str, Any]:
    return {"stream": True, **({"stream_options": {"include_usage": True}} if form == "chat" else {})}


@pytest.mark.parametrize(("form", "prompt_tokens"), [("responses", 1500), ("chat", 1500), ("generate", 2000)])
async def test_a_prefix_seen_before_is_cached(clients: Clients, form: str, prompt_tokens: int) -> None:
    """From 1024 tokens on, in steps of 128, the second request reads what the first one wrote."""
    prompt = "brief " * (prompt_tokens * 4 // 6)
    first = said(form, await clients.ask(form, prompt + " one", limit=5))
    second = said(form, await clients.ask(form, prompt + " two", limit=5))
    assert (first.cached, second.cached) == (0, 1024 + (prompt_tokens - 1024) // 128 * 128)
    short = said(form, await clients.ask(form, prompt[:4000], limit=5))
    assert short.cached == 0
    lines: Any = clients.sim.bill()["lines"]
    assert lines[1]["pico"] < lines[0]["pico"]
    written = lines[0]["tokens"]["cache_write_5m"]
    assert written == (0 if form == "generate" else second.cached)


async def test_anthropic_caches_only_what_is_marked(clients: Clients) -> None:
    """Breakpoints write and then read, apart by lifetime; without one nothing is cached."""
    voice, brief = "voice " * 1000, "brief " * 1000

    async def ask(*controls: Any) -> Any:
        system = [
            {"type": "text", "text": text, **({"cache_control": control} if control else {})}
            for text, control in zip((voice, brief), controls, strict=True)
        ]
        return (await clients.ask("messages", "go", limit=5, system=system)).usage

    hour, short = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    plain = await ask(None, None)
    assert (plain.cache_creation_input_tokens, plain.cache_read_input_tokens) == (0, 0)
    wrote = await ask(hour, short)
    assert wrote.cache_creation.ephemeral_1h_input_tokens == 1500
    assert wrote.cache_creation.ephemeral_5m_input_tokens == 1501
    read = await ask(hour, short)
    assert (read.cache_read_input_tokens, read.cache_creation_input_tokens) == (3001, 0)
    assert plain.input_tokens == read.input_tokens + 3001
    automatic = await clients.ask("messages", brief, limit=5, cache_control=short)
    assert automatic.usage.cache_creation_input_tokens == 1500


async def test_the_cache_can_be_switched_off() -> None:
    """Without it a bill doesn't depend on the order of arrival."""
    async with Simulator(scenario=Scenario(prompt_cache=False)) as sim, clients_of(sim) as clients:
        for _ in range(2):
            reply = said("responses", await clients.ask("responses", "brief " * 2000, limit=5))
            assert reply.cached == 0
    async with Simulator() as sim, clients_of(sim) as clients:
        for _ in range(2):
            options = {"prompt_cache_options": {"mode": "explicit"}}
            reply = said("responses", await clients.ask("responses", "brief " * 2000, limit=5, **options))
            assert reply.cached == 0


def test_entries_end_and_the_oldest_go_first() -> None:
    """A prefix lives for its lifetime; a full cache forgets what was used longest ago."""
    cache, prompt = PrefixCache(), b"x" * 5000
    first = cache.marked("k", prompt, [CacheBreakpoint(4400, 300)], 0.0)
    cache.remember(first, 0.0)
    assert cache.marked("k", prompt, [CacheBreakpoint(4400, 300)], 299.0).tokens.cache_read == 1100
    assert cache.marked("k", prompt, [CacheBreakpoint(4400, 300)], 301.0).tokens.cache_read == 0
    assert cache.marked("other", prompt, [CacheBreakpoint(4400, 300)], 1.0).tokens.cache_read == 0
    cache.remember(
        CacheLookup(Tokens(0, 0), tuple((number.to_bytes(4), 900.0) for number in range(100_000))), 1.0
    )
    assert cache.marked("k", prompt, [CacheBreakpoint(4400, 300)], 2.0).tokens.cache_read == 0


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 9000),
    cuts=st.lists(st.tuples(st.integers(0, 9000), st.sampled_from([300, 3600])), max_size=4),
    warm=st.booleans(),
)
def test_cache_buckets_always_add_up(size: int, cuts: list[tuple[int, int]], *, warm: bool) -> None:
    """Uncached, read and written tokens are disjoint and sum to the prompt."""
    cache, prompt = PrefixCache(), b"p" * size
    marks = [CacheBreakpoint(min(at, size), ttl) for at, ttl in sorted(cuts)]
    if warm:
        cache.remember(cache.marked("s", prompt, marks[:1], 0.0), 0.0)
        cache.remember(cache.implicit("i", prompt[: size // 2], 0.0, writes=True), 0.0)
    for lookup in (cache.marked("s", prompt, marks, 1.0), cache.implicit("i", prompt, 1.0, writes=True)):
        tokens = lookup.tokens
        assert tokens.input == -(-size // 4)
        assert min(tokens.uncached, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h) >= 0


async def test_a_scenarios_own_model_is_priced() -> None:
    """USD per million tokens in the file become pico-USD a token."""
    rule = ModelRule(
        "groq",
        "llama-9",
        input_usd_mtok=Decimal("0.05"),
        output_usd_mtok=Decimal("0.08"),
        served_as="llama-9-0901",
    )
    assert rule.card == Card(Rates(50_000, 80_000, 50_000))
    assert ModelRule("groq", "free").card is None
    read = ModelRule(
        "x", "y", input_usd_mtok=Decimal(1), output_usd_mtok=Decimal(2), cache_read_usd_mtok=Decimal("0.1")
    )
    assert read.card == Card(Rates(1_000_000, 2_000_000, 100_000))
