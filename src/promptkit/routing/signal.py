"""What a provider said went wrong, as one value, and the words that can be read from it.

Only exact words decide (see `words`): hosts that speak OpenAI's format write "INSUFFICIENT QUOTA"
for a concurrency limit, which must not be taken for `insufficient_quota`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from promptkit.types import Json

_FIRST_ERROR: Final = 300
_NO_QUOTA: Final = re.compile(r"\blimit: 0(?![\d.])")


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


_IMPLIED_STATUS: Final[Mapping[str, int]] = {
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
