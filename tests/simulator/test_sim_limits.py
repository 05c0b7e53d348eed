"""Rate limits: buckets, days, headers, and 429s in each provider's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as ge
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_kit import GOOGLE_WARNS, clients_of

from promptkit.simulator.models import ProviderFamily
from promptkit.simulator.rate_limits import LimitUsage, RateLimits, headers
from promptkit.simulator.scenario import LimitRule, Scenario
from promptkit.simulator.server import Simulator

pytestmark = GOOGLE_WARNS

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@settings(max_examples=80, deadline=None)
@given(
    limit=st.integers(1, 50),
    arrivals=st.lists(st.floats(0, 20), min_size=1, max_size=200),
)
def test_no_minute_passes_its_limit(limit: int, arrivals: list[float]) -> None:
    """A bucket admits at most its size at once and its rate after that, and says when to come back."""
    usage, now, admitted = LimitUsage.of(LimitRule(requests_per_minute=limit), 0.0), 0.0, 0
    for gap in arrivals:
        now += gap
        over = usage.admit(1, 1, now, NOON)
        if over is None:
            admitted += 1
        else:
            assert 0 < over.wait_s <= 60
            assert usage.buckets["requests"].wait_s(1) == over.wait_s
    assert admitted <= limit + now * limit / 60 + 1e-6


def test_what_was_reserved_and_not_used_is_free_again() -> None:
    """Tokens are reckoned at the output limit and settled by the reply."""
    usage = LimitUsage.of(LimitRule(tokens_per_minute=1000, output_tokens_per_minute=900), 0.0)
    assert usage.admit(100, 800, 0.0, NOON) is None
    over = usage.admit(100, 800, 0.0, NOON)
    assert over is not None
    assert (over.name, over.per_day) == ("tokens", False)
    usage.settle(100, 800, 50)
    assert usage.admit(100, 700, 0.0, NOON) is None
    outsized = LimitUsage.of(LimitRule(tokens_per_minute=10), 0.0)
    assert outsized.admit(500, 500, 0.0, NOON) is None
    outsized.settle(500, 500, 1)
    assert outsized.buckets["tokens"].level == 0


def test_a_day_is_fixed_and_starts_anew() -> None:
    """Requests and tokens a day are refused until midnight, UTC."""
    usage = LimitUsage.of(LimitRule(requests_per_day=2), 0.0)
    assert [usage.admit(1, 1, 0.0, NOON) is None for _ in range(3)] == [True, True, False]
    over = usage.admit(1, 1, 0.0, NOON)
    assert over is not None
    assert (over.per_day, over.wait_s) == (True, 12 * 3600)
    assert usage.admit(1, 1, 0.0, NOON + timedelta(days=1)) is None
    tokens = LimitUsage.of(LimitRule(tokens_per_day=100), 0.0)
    assert tokens.admit(90, 1, 0.0, NOON) is None
    over = tokens.admit(11, 1, 0.0, NOON)
    assert over is not None
    assert over.name == "tokens"
    nothing = LimitUsage.of(LimitRule(requests_per_minute=0), 0.0)
    over = nothing.admit(1, 1, 0.0, NOON)
    assert over is None or over.limit == 0


def test_the_nearer_rule_wins_and_keys_are_apart() -> None:
    """A rule for provider/model wins over the provider's; each key has its own usage."""
    limits = RateLimits(
        {"openai": LimitRule(requests_per_minute=5), "openai/a": LimitRule(requests_per_minute=1)}
    )
    near, far = limits.usage("openai", "a", "k", 0.0), limits.usage("openai", "b", "k", 0.0)
    assert near is not None
    assert far is not None
    assert (near.rule.requests_per_minute, far.rule.requests_per_minute) == (1, 5)
    assert limits.usage("openai", "a", "k", 0.0) is near
    assert limits.usage("openai", "a", "other", 0.0) is not near
    assert limits.usage("gemini", "a", "k", 0.0) is None
    assert RateLimits({}).usage("openai", "a", "k", 0.0) is None


def test_headers_are_each_providers_own() -> None:
    """OpenAI tells durations, Anthropic instants, Gemini nothing."""
    usage = LimitUsage.of(
        LimitRule(requests_per_minute=60, tokens_per_minute=6000, input_tokens_per_minute=600), 0.0
    )
    assert usage.admit(50, 0, 0.0, NOON) is None
    told = headers(ProviderFamily.OPENAI, usage, NOON)
    assert told["x-ratelimit-remaining-requests"] == "59"
    assert told["x-ratelimit-reset-requests"] == "1s"
    assert told["x-ratelimit-reset-tokens"] == "500ms"
    assert "x-ratelimit-limit-input-tokens" not in told
    for _ in range(59):
        usage.admit(1, 0, 0.0, NOON)
    assert headers(ProviderFamily.OPENAI, usage, NOON)["x-ratelimit-reset-requests"] == "1m0s"
    told = headers(ProviderFamily.ANTHROPIC, usage, NOON)
    assert told["anthropic-ratelimit-requests-reset"] == "2026-11-22T12:01:00Z"
    assert told["anthropic-ratelimit-input-tokens-limit"] == "600"
    assert headers(ProviderFamily.GEMINI, usage, NOON) == {}
    assert int(headers(ProviderFamily.OPENAI, None, NOON)["x-ratelimit-remaining-tokens"]) > 10**6


async def test_over_a_limit_each_sdk_raises_its_rate_limit() -> None:
    """The third request of a minute of two is a 429 with a hint; another model is free."""
    rule = LimitRule(requests_per_minute=2)
    limits = {
        "openai": rule,
        "anthropic": rule,
        "gemini": rule,
        "gemini/gemini-3.8-flash": LimitRule(requests_per_day=1),
    }
    async with Simulator(scenario=Scenario(limits=limits)) as sim, clients_of(sim) as clients:
        for form in ("chat", "messages", "generate"):
            for _ in range(2):
                await clients.ask(form)
        with pytest.raises(openai.RateLimitError, match="requests per min") as first:
            await clients.ask("chat")
        assert 20 < float(first.value.response.headers["retry-after"]) <= 30
        assert first.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(anthropic.RateLimitError) as second:
            await clients.ask("messages")
        assert second.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
        with pytest.raises(ge.ClientError, match="PerMinute") as third:
            await clients.ask("generate")
        error: Any = third.value
        assert error.details["error"]["details"][-1]["retryDelay"].endswith("s")
        await clients.ask("chat", model="gpt-6.1-terra")
        await clients.ask("generate", model="gemini-3.8-flash")
        with pytest.raises(ge.ClientError, match="PerDay"):
            await clients.ask("generate", model="gemini-3.8-flash")
    async with (
        Simulator(scenario=Scenario(limits={"gemini": LimitRule(requests_per_day=0)})) as sim,
        clients_of(sim) as clients,
    ):
        with pytest.raises(ge.ClientError, match="limit: 0"):
            await clients.ask("generate")
