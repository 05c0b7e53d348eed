"""Faults: how an error is classified, and what each fault means for the flow.

Status first, exact words of the body second, message text last and narrowly: a 500 that
mentions a policy is an outage, not a refusal. Sources: the SDKs' error types and the
providers' error pages as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from promptkit.types import Fault, Json


@dataclass(frozen=True, slots=True)
class Action:
    """What the flow does after a fault.

    Attributes:
        retries: the most retries at the same target.
        then: whether the call fails over to its next target, or stops.
        opens: whose circuit opens (for as long as the retry-after hint says): the target's, the
            whole provider's (key or account), or none.
        larger_window: only a target with a larger context window than this one can help.
        repair: the reply was not what was asked for. The target gets `retries` repairs in this call, at
            once, each with the list of problems.
    """

    retries: int = 0
    then: Literal["next", "stop"] = "next"
    opens: Literal["target", "provider"] | None = None
    larger_window: bool = False
    repair: bool = False


ACTIONS: Mapping[Fault, Action] = {
    Fault.TRANSIENT: Action(retries=2),
    # May have been billed: the engine charges its max cost before the next attempt.
    Fault.UNKNOWN_OUTCOME: Action(retries=2),
    Fault.BROKEN_REPLY: Action(retries=2),
    Fault.INVALID_OUTPUT: Action(retries=1, repair=True),
    # With `on_failure = "failover"` in the template there is no repair.
    Fault.CHECK: Action(retries=1, repair=True),
    Fault.RATE_LIMIT: Action(retries=2, opens="target"),
    Fault.NO_CAPACITY: Action(opens="target"),
    Fault.QUOTA: Action(opens="provider"),
    Fault.AUTH: Action(opens="provider"),
    Fault.MODEL_GONE: Action(opens="target"),
    Fault.CONTEXT_LENGTH: Action(larger_window=True),
    # A malformed request is not sent to every provider.
    Fault.INVALID_REQUEST: Action(then="stop"),
    # With `on_content = "next"` in the route, the call fails over instead.
    Fault.CONTENT: Action(then="stop"),
    Fault.BUDGET: Action(then="stop"),
    # Nothing was sent; another target may have a price.
    Fault.UNPRICED: Action(),
}
"""What each fault means for the flow. All retries count towards the attempts of the call."""

_BY_STATUS: Mapping[int, Fault] = {
    401: Fault.AUTH,
    402: Fault.QUOTA,
    403: Fault.AUTH,
    404: Fault.MODEL_GONE,
    408: Fault.TRANSIENT,
    409: Fault.TRANSIENT,
    410: Fault.MODEL_GONE,
    413: Fault.CONTEXT_LENGTH,
    425: Fault.TRANSIENT,
    429: Fault.RATE_LIMIT,
    499: Fault.TRANSIENT,
}
"""Faults by status below 500, where the body tells no more; any other status is an invalid request."""

_QUOTA: Mapping[str, Fault] = dict.fromkeys(
    (
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "billing_error",
    ),
    Fault.QUOTA,
)

_BY_WORD: Mapping[int, Mapping[str, Fault]] = {
    400: _QUOTA
    | {
        "FAILED_PRECONDITION": Fault.QUOTA,
        "context_length_exceeded": Fault.CONTEXT_LENGTH,
        "exceed_context_size_error": Fault.CONTEXT_LENGTH,
        "request_too_large": Fault.CONTEXT_LENGTH,
        "model_not_found": Fault.MODEL_GONE,
        "model_decommissioned": Fault.MODEL_GONE,
        "invalid_model": Fault.MODEL_GONE,
        "API_KEY_INVALID": Fault.AUTH,
        "invalid_api_key": Fault.AUTH,
        "organization_on_hold": Fault.AUTH,
        "content_filter": Fault.CONTENT,
        "content_policy_violation": Fault.CONTENT,
        "invalid_prompt": Fault.CONTENT,
        "bio_policy": Fault.CONTENT,
        "misalignment_policy_violation": Fault.CONTENT,
    },
    # Groq: larger than the tokens of a minute, whatever the window.
    413: {"rate_limit_exceeded": Fault.NO_CAPACITY},
    429: _QUOTA | {"resource_unavailable": Fault.NO_CAPACITY},
    503: {"server_is_overloaded": Fault.RATE_LIMIT, "slow_down": Fault.RATE_LIMIT},
}
"""Faults by an exact word of the body, under the status that the word comes with."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A message text that decides where neither status nor words do."""

    status: int
    family: str | None
    pattern: re.Pattern[str]
    fault: Fault


def _text(status: int, family: str | None, pattern: str, fault: Fault) -> _Text:
    return _Text(status, family, re.compile(pattern, re.IGNORECASE), fault)


_BY_TEXT = (
    _text(400, "anthropic", r"credit balance is too low", Fault.QUOTA),
    _text(400, "anthropic", r"reached your specified (?:workspace )?API usage limits", Fault.QUOTA),
    _text(400, "anthropic", r"^prompt is too long\b|exceed context limit", Fault.CONTEXT_LENGTH),
    _text(400, "gemini", r"token count .{0,60}exceeds the maximum number of tokens", Fault.CONTEXT_LENGTH),
    _text(400, "openai", r"maximum context length|exceeds the available context size", Fault.CONTEXT_LENGTH),
    _text(429, "openai", r"\bresource[ _]unavailable\b", Fault.NO_CAPACITY),
    _text(429, "gemini", r"prepayment credits are depleted", Fault.QUOTA),
)

_UNPROCESSABLE = 422

_FORBIDDEN = 403

_OUTAGE = 500


def classify(signal: Signal) -> Fault:
    """Name the fault behind an error.

    The server's `x-should-retry: false` turns a fault that would be retried into `no_capacity`
    (failover); `true` turns an invalid request into one that is retried.
    """
    fault = _fault(signal)
    should_retry = signal.headers.get("x-should-retry")
    if should_retry == "false" and fault in {Fault.TRANSIENT, Fault.RATE_LIMIT}:
        return Fault.NO_CAPACITY
    if should_retry == "true" and fault is Fault.INVALID_REQUEST:
        return Fault.TRANSIENT
    return fault


def _fault(signal: Signal) -> Fault:
    real = status_of(signal)
    status = 400 if real == _UNPROCESSABLE else real
    by_word = _BY_WORD.get(status, {})
    word = next((word for word in words(signal) if word in by_word), None)
    if word is not None:
        return by_word[word]
    if status == _FORBIDDEN and _was_flagged(signal):
        return Fault.CONTENT
    if status == 429 and is_daily_quota(signal):  # noqa: PLR2004 (the status is its own name)
        return Fault.QUOTA
    for text in _BY_TEXT:
        if text.status == status and text.family == signal.family and text.pattern.search(signal.message):
            return text.fault
    return Fault.TRANSIENT if status >= _OUTAGE else _BY_STATUS.get(status, Fault.INVALID_REQUEST)


def _was_flagged(signal: Signal) -> bool:
    """OpenRouter says 403 with `metadata.flagged_input` where a moderator refused the prompt."""
    return isinstance(signal.details, dict) and "flagged_input" in signal.details


_FIRST_ERROR = 300

_NO_QUOTA = re.compile(r"\blimit: 0(?![\d.])")


@dataclass(frozen=True, slots=True)
class Signal:
    """An error, from a reply's status and body or from an event inside a stream.

    Attributes:
        family: the wire format: `openai`, `anthropic` or `gemini`.
        status: the HTTP status; below 300 (or None) where the error came in a body that said 200.
        type: OpenAI's and Anthropic's `error.type`, Gemini's `error.status`.
        code: OpenAI's `error.code`, Gemini's numeric `error.code`, as text.
        message: `error.message`, or the body where it is no JSON.
        details: Anthropic's and Gemini's `error.details`; elsewhere `error.metadata`.
        headers: the reply's headers, names in lower case.
    """

    family: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    message: str = ""
    details: Json = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


_IMPLIED_STATUS: Mapping[str, int] = {
    # OpenAI
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "bio_policy": 400,
    "misalignment_policy_violation": 400,
    "data_residency_mismatch": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "insufficient_quota": 429,
    "credit_balance_exhausted": 429,
    "organization_spend_limit_exceeded": 429,
    "project_spend_limit_exceeded": 429,
    "organization_usage_limit_exceeded": 429,
    "rate_limit_exceeded": 429,
    "resource_unavailable": 429,
    "requests": 429,
    "tokens": 429,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
    "slow_down": 503,
    # Anthropic
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Gemini: the names of google.rpc's codes
    "FAILED_PRECONDITION": 400,
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The status that an error would have had, where it came inside a reply that said 200."""


def status_of(signal: Signal) -> int:
    """The HTTP status; for an error inside a 200, the one its code or type stands for, else 500."""
    if signal.status is not None and signal.status >= _FIRST_ERROR:
        return signal.status
    if signal.code is not None and re.fullmatch(r"[345]\d\d", signal.code):
        return int(signal.code)
    return next((_IMPLIED_STATUS[word] for word in words(signal) if word in _IMPLIED_STATUS), 500)


def words(signal: Signal) -> Iterator[str]:
    """The exact words of the body, the most telling first: cause, code, type."""
    details = signal.details
    if isinstance(details, dict) and isinstance(cause := details.get("error_code"), str):
        yield cause
    for detail in details_of(signal, "google.rpc.ErrorInfo"):
        if isinstance(reason := detail.get("reason"), str):
            yield reason
    if signal.code is not None:
        yield signal.code
    if signal.type is not None:
        yield signal.type


def details_of(signal: Signal, kind: str) -> Iterator[dict[str, Json]]:
    """Those of Gemini's details that are of a kind, such as `google.rpc.RetryInfo`."""
    if isinstance(signal.details, list):
        for detail in signal.details:
            if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(f"/{kind}"):
                yield detail


def is_daily_quota(signal: Signal) -> bool:
    """Whether Gemini says that a daily quota is spent, or that there is none at all (`limit: 0`)."""
    for failure in details_of(signal, "google.rpc.QuotaFailure"):
        violations = failure.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict) and _is_daily(violation):
                return True
    return signal.family == "gemini" and _NO_QUOTA.search(signal.message) is not None


def _is_daily(violation: Mapping[str, Json]) -> bool:
    return "PerDay" in str(violation.get("quotaId", "")) or violation.get("quotaValue") == "0"


def texts_of(value: Json) -> Mapping[str, str]:
    """The members of an object that are text; nothing for what is no object."""
    if not isinstance(value, dict):
        return {}
    return cast("Mapping[str, str]", {key: text for key, text in value.items() if isinstance(text, str)})
