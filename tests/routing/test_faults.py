"""The table of faults, row by row, and what each fault means for the flow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.routing.faults import ACTIONS, Action, Signal, classify
from promptkit.routing.hints import retry_after_s
from promptkit.types import Fault, Json

F = Fault


def openai(status: int, code: str | None = None, kind: str | None = None, message: str = "") -> Signal:
    return Signal("openai", status, kind, code, message)


def anthropic(status: int, kind: str = "", message: str = "", cause: str | None = None) -> Signal:
    return Signal("anthropic", status, kind, None, message, {"error_code": cause} if cause else None)


def gemini(status: int, word: str = "", message: str = "", *details: Json) -> Signal:
    return Signal("gemini", status, word, str(status), message, list(details))


def quota(quota_id: str, value: str = "10") -> Json:
    violation: Json = {"quotaId": quota_id, "quotaMetric": "requests", "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def error_info(reason: str) -> Json:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


RATE = "rate_limit_error"
BAD = "invalid_request_error"

ROWS = [
    # transient: 408, 500, 502, 503, 504
    *((Signal(family, status), F.TRANSIENT) for family in ("openai", "anthropic", "gemini") for status in (408, 500, 502, 503, 504)),
    (openai(500, message="This violates our policy."), F.TRANSIENT),
    (openai(500, "content_policy_violation"), F.TRANSIENT),
    (openai(409), F.TRANSIENT),
    (openai(520), F.TRANSIENT),
    (gemini(499, "CANCELLED"), F.TRANSIENT),
    # OpenAI's rate limits
    (openai(429, "rate_limit_exceeded", "requests"), F.RATE_LIMIT),
    (openai(429, "slow_down"), F.RATE_LIMIT),
    (openai(503, "server_is_overloaded"), F.RATE_LIMIT),
    (openai(503, "slow_down"), F.RATE_LIMIT),
    (openai(429), F.RATE_LIMIT),
    # OpenAI's quotas
    (openai(429, None, "insufficient_quota"), F.QUOTA),
    (openai(429, "insufficient_quota", "insufficient_quota"), F.QUOTA),
    (openai(429, "credit_balance_exhausted"), F.QUOTA),
    (openai(429, "organization_spend_limit_exceeded"), F.QUOTA),
    (openai(429, "project_spend_limit_exceeded"), F.QUOTA),
    (openai(429, "organization_usage_limit_exceeded"), F.QUOTA),
    (openai(429, "billing_not_active"), F.QUOTA),
    (openai(400, "billing_hard_limit_reached"), F.QUOTA),
    # structured codes are matched exactly: a concurrency limit of an imitator
    (openai(429, "INSUFFICIENT QUOTA"), F.RATE_LIMIT),
    (openai(429, "INSUFFICIENT_QUOTA"), F.RATE_LIMIT),
    (openai(429, None, "INSUFFICIENT QUOTA", "INSUFFICIENT QUOTA: concurrency"), F.RATE_LIMIT),
    (openai(429, message="insufficient_quota"), F.RATE_LIMIT),
    # flex
    (openai(429, "resource_unavailable"), F.NO_CAPACITY),
    (openai(429, None, None, "Resource unavailable, try again later"), F.NO_CAPACITY),
    # Anthropic
    (anthropic(429, RATE), F.RATE_LIMIT),
    (anthropic(429, RATE, cause="ramp_limit_exceeded"), F.RATE_LIMIT),
    (anthropic(429, RATE, cause="enforced_spend_limit_reached"), F.QUOTA),
    (anthropic(429, RATE, cause="contract_spend_limit_reached"), F.QUOTA),
    (anthropic(529, "overloaded_error"), F.TRANSIENT),
    (anthropic(504, "timeout_error"), F.TRANSIENT),
    (anthropic(400, BAD, "Your credit balance is too low to access the Anthropic API."), F.QUOTA),
    (anthropic(400, BAD, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."), F.QUOTA),
    (anthropic(400, BAD, "You have reached your specified workspace API usage limits."), F.QUOTA),
    (anthropic(402, "billing_error"), F.QUOTA),
    (anthropic(400, BAD, cause="organization_on_hold"), F.AUTH),
    # context length
    (anthropic(413, "request_too_large"), F.CONTEXT_LENGTH),
    (anthropic(400, BAD, "prompt is too long: 208310 tokens > 200000 maximum"), F.CONTEXT_LENGTH),
    (anthropic(400, BAD, "input length and `max_tokens` exceed context limit: 9 + 9 > 10"), F.CONTEXT_LENGTH),
    (openai(400, "context_length_exceeded", BAD), F.CONTEXT_LENGTH),
    (openai(400, "400", "exceed_context_size_error"), F.CONTEXT_LENGTH),
    (openai(400, None, "BadRequestError", "This model's maximum context length is 4096 tokens."), F.CONTEXT_LENGTH),
    (openai(422, None, None, "the prompt exceeds the available context size"), F.CONTEXT_LENGTH),
    (openai(413), F.CONTEXT_LENGTH),
    (openai(413, "rate_limit_exceeded", "tokens"), F.NO_CAPACITY),
    (gemini(400, "INVALID_ARGUMENT", "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."), F.CONTEXT_LENGTH),
    # Gemini's limits and quotas
    (gemini(429, "RESOURCE_EXHAUSTED", "", quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")), F.RATE_LIMIT),
    (gemini(429, "RESOURCE_EXHAUSTED", "", quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")), F.QUOTA),
    (gemini(429, "RESOURCE_EXHAUSTED", "", quota("GenerateContentInputTokensPerMinute"), quota("RequestsPerDay")), F.QUOTA),
    (gemini(429, "RESOURCE_EXHAUSTED", "", quota("RequestsPerMinute", "0")), F.QUOTA),
    (gemini(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: requests, limit: 0, model: x"), F.QUOTA),
    (gemini(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: requests, limit: 05"), F.RATE_LIMIT),
    (gemini(429, "RESOURCE_EXHAUSTED", "limit: 0.5"), F.RATE_LIMIT),
    (gemini(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), F.QUOTA),
    (gemini(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), F.RATE_LIMIT),
    (gemini(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), F.QUOTA),
    # auth
    *((Signal(family, status), F.AUTH) for family in ("openai", "anthropic", "gemini") for status in (401, 403)),
    (gemini(400, "INVALID_ARGUMENT", "API key not valid.", error_info("API_KEY_INVALID")), F.AUTH),
    (openai(400, "invalid_api_key"), F.AUTH),
    # a model that is gone
    (openai(404, "model_not_found"), F.MODEL_GONE),
    (anthropic(404, "not_found_error"), F.MODEL_GONE),
    (gemini(404, "NOT_FOUND"), F.MODEL_GONE),
    (openai(410), F.MODEL_GONE),
    (openai(400, "model_decommissioned"), F.MODEL_GONE),
    (openai(400, "1500", "invalid_model"), F.MODEL_GONE),
    # invalid
    (openai(400, None, BAD), F.INVALID_REQUEST),
    (openai(422), F.INVALID_REQUEST),
    (openai(405), F.INVALID_REQUEST),
    (openai(307), F.INVALID_REQUEST),
    (anthropic(400, BAD, "max_tokens: the credit is fine"), F.INVALID_REQUEST),
    (gemini(400, "INVALID_ARGUMENT"), F.INVALID_REQUEST),
    # one family's text means nothing in another's mouth
    (openai(400, None, BAD, "credit balance is too low"), F.INVALID_REQUEST),
    # content
    (openai(400, "content_filter"), F.CONTENT),
    (openai(400, "content_policy_violation"), F.CONTENT),
    (openai(400, "invalid_prompt", BAD), F.CONTENT),
    (Signal("openai", 403, None, "403", "flagged", {"reasons": ["x"], "flagged_input": "…"}), F.CONTENT),
    (Signal("openai", 403, None, "403", "no", {"provider_name": "x"}), F.AUTH),
]  # fmt: skip


@pytest.mark.parametrize(("signal", "fault"), ROWS)
def test_a_row_of_the_table(signal: Signal, fault: Fault) -> None:
    """Status first, exact words second, message text last."""
    assert classify(signal) is fault


@pytest.mark.parametrize(
    ("signal", "fault"),
    [
        (Signal("anthropic", 200, "overloaded_error"), F.TRANSIENT),
        (Signal("anthropic", 200, RATE), F.RATE_LIMIT),
        (Signal("anthropic", 200, "authentication_error"), F.AUTH),
        (Signal("anthropic", 200, "billing_error"), F.QUOTA),
        (Signal("anthropic", None, "api_error"), F.TRANSIENT),
        (Signal("openai", 200, "service_unavailable_error", "server_is_overloaded"), F.RATE_LIMIT),
        (Signal("openai", 200, "server_error", "server_error"), F.TRANSIENT),
        (Signal("openai", 200, "insufficient_quota"), F.QUOTA),
        (Signal("openai", 200, None, "bio_policy"), F.CONTENT),
        (Signal("openai", 200, None, "429", "upstream"), F.RATE_LIMIT),
        (Signal("openai", 200, None, "1234"), F.TRANSIENT),
        (Signal("openai", 200), F.TRANSIENT),
        (Signal("gemini", 200, "UNAVAILABLE", "503"), F.TRANSIENT),
        (Signal("gemini", 200, "RESOURCE_EXHAUSTED"), F.RATE_LIMIT),
        (Signal("gemini", 200, "FAILED_PRECONDITION"), F.QUOTA),
    ],
)
def test_an_error_inside_a_200(signal: Signal, fault: Fault) -> None:
    """In a body or a stream that said 200, the error's code or type stands for the status."""
    assert classify(signal) is fault


@pytest.mark.parametrize(
    ("status", "told", "fault"),
    [
        (503, "false", F.NO_CAPACITY),
        (429, "false", F.NO_CAPACITY),
        (503, "true", F.TRANSIENT),
        (400, "true", F.TRANSIENT),
        (400, "false", F.INVALID_REQUEST),
        (401, "true", F.AUTH),
        (503, "maybe", F.TRANSIENT),
    ],
)
def test_the_server_says_whether_to_try_again(status: int, told: str, fault: Fault) -> None:
    """`x-should-retry: false` sends the call to its next target; `true` gives another try."""
    assert classify(Signal("openai", status, headers={"x-should-retry": told})) is fault


def test_every_fault_has_an_action() -> None:
    """The flow finds no fault without a row."""
    assert set(ACTIONS) == set(Fault)


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (F.TRANSIENT, Action(retries=2)),
        (F.UNKNOWN_OUTCOME, Action(retries=2)),
        (F.BROKEN_REPLY, Action(retries=2)),
        (F.RATE_LIMIT, Action(retries=2, opens="target")),
        (F.NO_CAPACITY, Action(opens="target")),
        (F.QUOTA, Action(opens="provider")),
        (F.AUTH, Action(opens="provider")),
        (F.MODEL_GONE, Action(opens="target")),
        (F.CONTEXT_LENGTH, Action(larger_window=True)),
        (F.INVALID_REQUEST, Action(then="stop")),
        (F.CONTENT, Action(then="stop")),
        (F.BUDGET, Action(then="stop")),
        (F.UNPRICED, Action()),
    ],
)
def test_what_a_fault_means_for_the_flow(fault: Fault, action: Action) -> None:
    """Who is asked next, how often, and what is parked."""
    assert ACTIONS[fault] == action


words = st.sampled_from(["insufficient_quota", "overloaded_error", "UNAVAILABLE", "503", "x", ""])
json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["@type", "violations", "quotaId", "metadata", "retryDelay", "error_code", "reason"]
            ),
            inner
            | st.sampled_from(["type.googleapis.com/google.rpc.QuotaFailure", "x/google.rpc.RetryInfo"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)
signals = st.builds(
    Signal,
    family=st.sampled_from(["openai", "anthropic", "gemini"]),
    status=st.none() | st.sampled_from([200, 302, 400, 403, 404, 429, 500, 529, 999]),
    type=st.none() | words,
    code=st.none() | words,
    message=st.text(max_size=20) | st.sampled_from(["limit: 0", "Please retry in 1.5s", "regain access on 2026-99-99"]),
    details=json_values,
    headers=st.dictionaries(
        st.sampled_from(
            ["date", "retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"]
        ),
        st.text(max_size=12) | st.sampled_from(["Sun, 22 Nov 2026 00:00:00 GMT", "1e999", "-3", "9" * 30]),
        max_size=5,
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(signal=signals)
def test_every_signal_has_a_fault_and_a_sane_hint(signal: Signal) -> None:
    """Whatever a host answers, it is named, and its hint is none or some seconds up to 32 days."""
    assert classify(signal) in Fault
    hint = retry_after_s(signal)
    assert hint is None or 0 <= hint <= 32 * 86400
