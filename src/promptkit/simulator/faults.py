"""The named faults, and the error responses that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

from .models import ProviderFamily
from .requests import ErrorResponse


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """An error: `kind` is the error type (OpenAI, Anthropic) or the status (Gemini).

    `hinted` is whether the provider sends a retry-after hint with it.
    """

    status: int
    kind: str
    message: str
    code: str | None = None
    param: str | None = None
    details: tuple[Mapping[str, Any], ...] = ()
    html: bool = False
    hinted: bool = False


@dataclass(frozen=True, slots=True)
class WireSpec:
    """A broken exchange; `billed` is the default if the script has no value."""

    description: str
    billed: bool


WIRE: Final[Mapping[str, WireSpec]] = {
    "wire.reset_before": WireSpec("the connection is reset before the body is read", billed=False),
    "wire.reset_after": WireSpec("the connection is reset after the request is read", billed=True),
    "wire.stall": WireSpec("the request is read and gets no response", billed=False),
    "wire.stall_stream": WireSpec(
        "a stream stops in the middle and stays open (a whole reply: as wire.stall)", billed=True
    ),
    "wire.slow_first_byte": WireSpec("the first byte is `seconds` late (default 1)", billed=True),
    "wire.cut_body": WireSpec("the body is shorter than its Content-Length", billed=True),
    "wire.cut_stream": WireSpec(
        "a stream is cut inside an event (a whole reply: as wire.cut_body)", billed=True
    ),
    "wire.early_end": WireSpec("a stream ends cleanly without its terminal event", billed=True),
    "wire.malformed": WireSpec(
        "status 200 and a body that is not JSON (a stream: one broken event)", billed=True
    ),
    "wire.stream_error": WireSpec("an error event inside a stream; `error` names it", billed=False),
}
REPLY: Final[Mapping[str, str]] = {
    "reply.refusal": "the model refuses (Gemini: finish reason PROHIBITED_CONTENT)",
    "reply.content_filter": "a filter cuts the reply (Anthropic: refusal; Gemini: SAFETY)",
    "reply.blocked_prompt": "the prompt is blocked (Gemini's promptFeedback; elsewhere a 400)",
    "reply.truncated": "the reply ends at half its length, with finish reason `length`",
    "reply.empty": "no text, finish reason `length`: reasoning used the whole limit, which is billed",
    "reply.unknown_model": "the response names an unknown model",
    "reply.not_json": "prose instead of JSON",
    "reply.wrong_json": "JSON that doesn't match the requested schema",
    "reply.items_missing": "every second item of a list by id is missing",
    "reply.items_repeated": "the first item of a list by id appears twice",
    "reply.items_extra": "a list by id has an item with an id that was not requested",
    "reply.says": "the rule's `message` is the reply",
    "reply.no_usage": "the usage is missing (it is billed)",
}
_POLICY_OUTAGE = "Internal error while evaluating the content policy service. This is an outage on our side."
OPENAI: Final[Mapping[str, ErrorSpec]] = {
    "bad_request": ErrorSpec(400, "invalid_request_error", "Invalid request.", "invalid_value"),
    "context_length": ErrorSpec(
        400,
        "invalid_request_error",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "context_length_exceeded",
        "input",
    ),
    "content_policy": ErrorSpec(
        400,
        "invalid_request_error",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        "invalid_prompt",
    ),
    "unauthorized": ErrorSpec(401, "invalid_request_error", "Incorrect API key provided.", "invalid_api_key"),
    "forbidden": ErrorSpec(
        403,
        "request_forbidden",
        "Country, region, or territory not supported",
        "unsupported_country_region_territory",
    ),
    "not_found": ErrorSpec(
        404,
        "invalid_request_error",
        "The model does not exist or you do not have access to it.",
        "model_not_found",
    ),
    "timeout": ErrorSpec(408, "server_error", "Request timed out.", "request_timeout"),
    "conflict": ErrorSpec(
        409, "invalid_request_error", "The resource is locked by another request.", "conflict"
    ),
    "too_large": ErrorSpec(413, "invalid_request_error", "Request body too large.", "request_too_large"),
    "unprocessable": ErrorSpec(422, "invalid_request_error", "Unprocessable request."),
    "rate_limit": ErrorSpec(
        429,
        "requests",
        "Rate limit reached for requests per min (RPM). Please try again later.",
        "rate_limit_exceeded",
        hinted=True,
    ),
    "slow_down": ErrorSpec(429, "requests", "Please slow down and retry.", "slow_down", hinted=True),
    "insufficient_quota": ErrorSpec(
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    ),
    "credit_balance_exhausted": ErrorSpec(
        429, "billing_error", "Your credit balance is exhausted.", "credit_balance_exhausted"
    ),
    "organization_spend_limit": ErrorSpec(
        429,
        "billing_error",
        "Your organization's spend limit has been reached.",
        "organization_spend_limit_exceeded",
    ),
    "project_spend_limit": ErrorSpec(
        429, "billing_error", "Your project's spend limit has been reached.", "project_spend_limit_exceeded"
    ),
    "organization_usage_limit": ErrorSpec(
        429,
        "billing_error",
        "Your organization's usage limit has been reached.",
        "organization_usage_limit_exceeded",
    ),
    "flex_unavailable": ErrorSpec(
        429,
        "resource_unavailable",
        "Resource unavailable: flex capacity is not available right now. You were not charged.",
        "resource_unavailable",
    ),
    "concurrency": ErrorSpec(
        429,
        "rate_limit_error",
        "INSUFFICIENT QUOTA: too many concurrent requests for this key.",
        "concurrency_limit",
        hinted=True,
    ),
    "server_error": ErrorSpec(500, "server_error", "The server had an error while processing your request."),
    "policy_500": ErrorSpec(500, "server_error", _POLICY_OUTAGE),
    "bad_gateway": ErrorSpec(502, "server_error", "Bad gateway.", html=True),
    "unavailable": ErrorSpec(
        503, "server_error", "The engine is currently unavailable, please try again later."
    ),
    "overloaded": ErrorSpec(
        503,
        "service_unavailable_error",
        "Our servers are currently overloaded. Please try again later.",
        "server_is_overloaded",
        hinted=True,
    ),
    "gateway_timeout": ErrorSpec(504, "server_error", "Gateway timeout.", html=True),
}


def _anthropic_detail(code: str) -> tuple[Mapping[str, Any], ...]:
    return ({"error_code": code},)


ANTHROPIC: Final[Mapping[str, ErrorSpec]] = {
    "bad_request": ErrorSpec(400, "invalid_request_error", "Invalid request."),
    "credit_400": ErrorSpec(
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    "own_limit_400": ErrorSpec(
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ),
    "context_length": ErrorSpec(
        400, "invalid_request_error", "prompt is too long: 1200000 tokens > 1000000 maximum"
    ),
    "unauthorized": ErrorSpec(401, "authentication_error", "invalid x-api-key"),
    "billing_402": ErrorSpec(
        402, "billing_error", "There is an issue with your payment or billing information."
    ),
    "forbidden": ErrorSpec(
        403, "permission_error", "Your API key does not have permission to use the specified resource."
    ),
    "not_found": ErrorSpec(404, "not_found_error", "model: not found"),
    "timeout_408": ErrorSpec(408, "timeout_error", "Request timed out."),
    "conflict": ErrorSpec(409, "conflict_error", "The resource was changed by another request."),
    "too_large": ErrorSpec(413, "request_too_large", "Request exceeds the maximum size"),
    "unprocessable": ErrorSpec(422, "invalid_request_error", "Unprocessable request."),
    "rate_limit": ErrorSpec(
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of requests per minute.",
        hinted=True,
    ),
    "ramp_limit": ErrorSpec(
        429,
        "rate_limit_error",
        "This request would exceed a ramp limit.",
        details=_anthropic_detail("ramp_limit_exceeded"),
        hinted=True,
    ),
    "spend_limit": ErrorSpec(
        429,
        "rate_limit_error",
        "Your organization has reached its monthly API spend limit.",
        details=_anthropic_detail("enforced_spend_limit_reached"),
    ),
    "contract_limit": ErrorSpec(
        429,
        "rate_limit_error",
        "Your organization has reached the spend limit of its contract.",
        details=_anthropic_detail("contract_spend_limit_reached"),
    ),
    "api_error": ErrorSpec(500, "api_error", "Internal server error"),
    "policy_500": ErrorSpec(500, "api_error", _POLICY_OUTAGE),
    "bad_gateway": ErrorSpec(502, "api_error", "Bad gateway", html=True),
    "unavailable": ErrorSpec(503, "api_error", "Service unavailable"),
    "timeout_504": ErrorSpec(504, "timeout_error", "The request timed out while processing."),
    "overloaded_529": ErrorSpec(529, "overloaded_error", "Overloaded"),
}
_HELP: Final[Mapping[str, Any]] = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [
        {
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }
    ],
}


def _quota(quota_id: str, value: str) -> tuple[Mapping[str, Any], ...]:
    violation: dict[str, Any] = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_requests",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global"},
    }
    if value != "0":
        violation["quotaValue"] = value
    return ({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}, _HELP)


def _reason(reason: str) -> tuple[Mapping[str, Any], ...]:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return ({"@type": kind, "reason": reason, "domain": "googleapis.com"},)


_EXCEEDED = (
    "You exceeded your current quota, please check your plan and billing details.\n"
    "* Quota exceeded for metric: generativelanguage.googleapis.com/generate_requests, limit: {}"
)
GEMINI: Final[Mapping[str, ErrorSpec]] = {
    "bad_request": ErrorSpec(400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "context_length": ErrorSpec(
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "failed_precondition": ErrorSpec(
        400,
        "FAILED_PRECONDITION",
        "User location is not supported for the API use without a billing account linked.",
    ),
    "invalid_key_400": ErrorSpec(
        400,
        "INVALID_ARGUMENT",
        "API key not valid. Please pass a valid API key.",
        details=_reason("API_KEY_INVALID"),
    ),
    "unauthorized": ErrorSpec(
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials.",
        details=_reason("API_KEY_INVALID"),
    ),
    "forbidden": ErrorSpec(
        403,
        "PERMISSION_DENIED",
        "Method doesn't allow unregistered callers (callers without established identity).",
    ),
    "not_found": ErrorSpec(
        404,
        "NOT_FOUND",
        "The model is not found for API version v1beta, or is not supported for generateContent.",
    ),
    "timeout_408": ErrorSpec(408, "DEADLINE_EXCEEDED", "Request timed out."),
    "conflict": ErrorSpec(409, "ABORTED", "The operation was aborted."),
    "too_large": ErrorSpec(
        413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."
    ),
    "unprocessable": ErrorSpec(422, "INVALID_ARGUMENT", "Unprocessable request."),
    "per_minute": ErrorSpec(
        429,
        "RESOURCE_EXHAUSTED",
        _EXCEEDED.format("15"),
        details=_quota("GenerateRequestsPerMinutePerProjectPerModel", "15"),
        hinted=True,
    ),
    "per_day": ErrorSpec(
        429,
        "RESOURCE_EXHAUSTED",
        _EXCEEDED.format("1000"),
        details=_quota("GenerateRequestsPerDayPerProjectPerModel", "1000"),
        hinted=True,
    ),
    "limit_0": ErrorSpec(
        429,
        "RESOURCE_EXHAUSTED",
        _EXCEEDED.format("0"),
        details=_quota("GenerateContentInputTokensPerModelPerMinute-FreeTier", "0"),
        hinted=True,
    ),
    "internal": ErrorSpec(500, "INTERNAL", "An internal error has occurred. Please retry or report."),
    "policy_500": ErrorSpec(500, "INTERNAL", _POLICY_OUTAGE),
    "bad_gateway": ErrorSpec(502, "UNAVAILABLE", "Bad gateway.", html=True),
    "overloaded": ErrorSpec(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "deadline": ErrorSpec(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
ERRORS: Final[Mapping[str, ErrorSpec]] = {
    f"{family}.{name}": spec
    for family, table in (
        (ProviderFamily.OPENAI, OPENAI),
        (ProviderFamily.ANTHROPIC, ANTHROPIC),
        (ProviderFamily.GEMINI, GEMINI),
    )
    for name, spec in table.items()
}
_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"
_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ANTHROPIC_KINDS = {spec.status: spec.kind for spec in reversed(tuple(ANTHROPIC.values()))}


def names() -> tuple[str, ...]:
    """Return all names, except the family `http.STATUS`."""
    return (*ERRORS, *WIRE, *REPLY)


def problem_with(name: str) -> str | None:
    """Return why a name is not a fault, with the closest one; None if it is one."""
    if name in ERRORS or name in WIRE or name in REPLY:
        return None
    head, _, status = name.partition(".")
    if head == "http" and status.isdecimal() and 400 <= int(status) <= 599:  # noqa: PLR2004 - the range of errors
        return None
    close = get_close_matches(name, names(), 1)
    return f"unknown fault {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def family_of_fault(name: str) -> ProviderFamily | None:
    """Return the family whose format a fault has; None if it fits any."""
    head = name.partition(".")[0]
    return ProviderFamily(head) if head in tuple(ProviderFamily) else None


def error_response(  # noqa: PLR0913 - all that an error has
    name: str,
    family: ProviderFamily,
    *,
    request_id: str,
    message: str | None = None,
    code: str | None = None,
    param: str | None = None,
    retry_after_s: float | None = None,
) -> ErrorResponse:
    """Return the error response of a named fault (or `http.STATUS`) in a family's format.

    Args:
        name: a name of `ERRORS` or `http.STATUS`.
        family: the format of `http.STATUS`; a family's own fault has its own format.
        request_id: part of the body for Anthropic.
        message: replaces the table's message.
        code: replaces the table's code.
        param: the invalid parameter.
        retry_after_s: the retry-after hint, sent as Retry-After or, for Gemini, as RetryInfo.
    """
    family = family_of_fault(name) or family
    spec = ERRORS.get(name) or _plain(int(name.removeprefix("http.")), family)
    hint = (
        {}
        if retry_after_s is None or family is ProviderFamily.GEMINI
        else {"retry-after": f"{retry_after_s:.10g}"}
    )
    if spec.html:
        return ErrorResponse(
            spec.status,
            hint,
            _HTML.format(f"{spec.status} {HTTPStatus(spec.status).phrase}").encode(),
            "text/html",
        )
    spec = replace(spec, message=message or spec.message, code=code or spec.code, param=param or spec.param)
    body = error_body(spec, family, request_id, retry_after_s)
    return ErrorResponse(spec.status, hint, json.dumps(body, ensure_ascii=False).encode())


def error_body(
    spec: ErrorSpec, family: ProviderFamily, request_id: str, retry_after_s: float | None = None
) -> dict[str, Any]:
    """Return the JSON of an error in a family's format."""
    match family:
        case ProviderFamily.OPENAI:
            error = {"message": spec.message, "type": spec.kind, "param": spec.param, "code": spec.code}
            return {"error": error}
        case ProviderFamily.ANTHROPIC:
            inner: dict[str, Any] = {"type": spec.kind, "message": spec.message}
            if spec.details:
                inner["details"] = dict(spec.details[0])
            return {"type": "error", "error": inner, "request_id": request_id}
        case ProviderFamily.GEMINI:
            return {"error": _gemini_error(spec, retry_after_s)}


def _gemini_error(spec: ErrorSpec, retry_after_s: float | None) -> dict[str, Any]:
    message, details = spec.message, [dict(each) for each in spec.details]
    if retry_after_s is not None:
        message = f"{message}\nPlease retry in {retry_after_s:.10g}s."
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        details.append({"@type": kind, "retryDelay": f"{retry_after_s:.10g}s"})
    error = {"code": spec.status, "message": message, "status": spec.kind}
    return {**error, "details": details} if details else error


def stream_error(
    name: str | None, family: ProviderFamily, request_id: str
) -> tuple[ErrorSpec, dict[str, Any]]:
    """Return an error inside a stream, and its JSON; by default, an overload."""
    default = {
        ProviderFamily.OPENAI: "openai.server_error",
        ProviderFamily.ANTHROPIC: "anthropic.overloaded_529",
    }
    name = name or default.get(family, "gemini.overloaded")
    spec = ERRORS.get(name) or _plain(int(name.removeprefix("http.")), family)
    return spec, error_body(spec, family, request_id)


def _plain(status: int, family: ProviderFamily) -> ErrorSpec:
    phrase = HTTPStatus(status).phrase if status in tuple(HTTPStatus) else "Error"
    match family:
        case ProviderFamily.OPENAI:
            kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        case ProviderFamily.ANTHROPIC:
            fallback = "api_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
            kind = _ANTHROPIC_KINDS.get(status, fallback)
        case ProviderFamily.GEMINI:
            kind = _GEMINI_STATUSES.get(status, "UNKNOWN")
    return ErrorSpec(status, kind, phrase)
