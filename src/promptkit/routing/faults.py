"""What went wrong, and what each fault means for the flow: two tables and the rules between them.

Status first, exact words of the body second, message text last and narrowly: a 500 that
mentions a policy is an outage, not a refusal. Sources: the SDKs' error types and the
providers' error pages as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from promptkit.types import Fault

from .hints import retry_after_s
from .signal import Signal, is_daily_quota, status_of, words

__all__ = ["ACTIONS", "Action", "Signal", "classify", "retry_after_s"]


@dataclass(frozen=True, slots=True)
class Action:
    """What the flow does after a fault.

    Attributes:
        same_tries: how often at most the same target is asked again for it.
        then: whether the call goes on to its next target, or stops.
        park: what is closed for a while (the hint says how long): the target, the whole
            provider (key or account), or nothing.
        larger_window: only a target with a larger context window than this one is of use.
        repair: the reply itself was not what was asked for. `same_tries` then are all that the
            target gets in this call, at once, and it is told what was wrong.
    """

    same_tries: int = 0
    then: Literal["next", "stop"] = "next"
    park: Literal["target", "provider"] | None = None
    larger_window: bool = False
    repair: bool = False


ACTIONS: Final[Mapping[Fault, Action]] = {
    Fault.TRANSIENT: Action(same_tries=2),
    # May have been billed: the engine settles it at its ceiling before it is sent again.
    Fault.UNKNOWN_OUTCOME: Action(same_tries=2),
    Fault.BROKEN_REPLY: Action(same_tries=2),
    Fault.INVALID_OUTPUT: Action(same_tries=1, repair=True),
    # The skeleton's `on_failure` may say "failover" instead: no second try.
    Fault.CHECK: Action(same_tries=1, repair=True),
    Fault.RATE_LIMIT: Action(same_tries=2, park="target"),
    Fault.NO_CAPACITY: Action(park="target"),
    Fault.QUOTA: Action(park="provider"),
    Fault.AUTH: Action(park="provider"),
    Fault.MODEL_GONE: Action(park="target"),
    Fault.CONTEXT_LENGTH: Action(larger_window=True),
    # A malformed request is not sent to every provider.
    Fault.INVALID_REQUEST: Action(then="stop"),
    # The route's `on_content` may say "next" instead.
    Fault.CONTENT: Action(then="stop"),
    Fault.BUDGET: Action(then="stop"),
    # Nothing was sent; another target may have a price.
    Fault.UNPRICED: Action(),
}
"""What each fault means for the flow. The tries of all faults draw on one budget a call."""

_BY_STATUS: Final[Mapping[int, Fault]] = {
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
"""What a status below 500 means when the body says no more; any other is an invalid request."""

_QUOTA: Final[Mapping[str, Fault]] = dict.fromkeys(
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

_BY_WORD: Final[Mapping[int, Mapping[str, Fault]]] = {
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
"""What an exact word of the body means, under the status that it may come with."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A message that decides, where neither status nor words do."""

    status: int
    family: str | None
    pattern: re.Pattern[str]
    fault: Fault


def _text(status: int, family: str | None, pattern: str, fault: Fault) -> _Text:
    return _Text(status, family, re.compile(pattern, re.IGNORECASE), fault)


_BY_TEXT: Final = (
    _text(400, "anthropic", r"credit balance is too low", Fault.QUOTA),
    _text(400, "anthropic", r"reached your specified (?:workspace )?API usage limits", Fault.QUOTA),
    _text(400, "anthropic", r"^prompt is too long\b|exceed context limit", Fault.CONTEXT_LENGTH),
    _text(400, "gemini", r"token count .{0,60}exceeds the maximum number of tokens", Fault.CONTEXT_LENGTH),
    _text(400, "openai", r"maximum context length|exceeds the available context size", Fault.CONTEXT_LENGTH),
    _text(429, "openai", r"\bresource[ _]unavailable\b", Fault.NO_CAPACITY),
    _text(429, "gemini", r"prepayment credits are depleted", Fault.QUOTA),
)

_UNPROCESSABLE: Final = 422
_FORBIDDEN: Final = 403
_OUTAGE: Final = 500


def classify(signal: Signal) -> Fault:
    """Name the fault behind an error.

    The server's `x-should-retry: false` turns what would be tried again into `no_capacity` (the
    next target's turn); `true` makes an otherwise invalid request worth another try.
    """
    fault = _fault(signal)
    told = signal.headers.get("x-should-retry")
    if told == "false" and fault in {Fault.TRANSIENT, Fault.RATE_LIMIT}:
        return Fault.NO_CAPACITY
    if told == "true" and fault is Fault.INVALID_REQUEST:
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
