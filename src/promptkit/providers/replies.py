"""Helpers of all wire formats: JSON, and turning a reply into an outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from promptkit._util.text import shortened
from promptkit.routing.faults import Signal, classify, status_of
from promptkit.routing.hints import retry_after_s
from promptkit.types import (
    Call,
    Completion,
    Failure,
    Fault,
    Finish,
    JsonObject,
    Outcome,
    TransportFailure,
    Usage,
    WireReply,
    WireRequest,
)

_DUMP = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def wire_request(path: str, body: JsonObject, call: Call, warnings: tuple[str, ...]) -> WireRequest | Failure:
    """Encode a request; a failure if its body contains what JSON or UTF-8 can't express."""
    try:
        return WireRequest(path, _DUMP(body).encode(), call.stream, warnings)
    except ValueError as cause:  # NaN, infinity, or half of a surrogate pair
        return Failure(Fault.INVALID_REQUEST, f"the request can't be written as JSON in UTF-8: {cause}")


def load(body: bytes) -> JsonObject | None:
    """Parse an object, or the only one in a list (as Gemini wraps errors); None for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(cast("list[object]", value)) == 1:
        value = cast("list[object]", value)[0]
    return cast("JsonObject", value) if isinstance(value, dict) else None


def member(body: JsonObject, key: str) -> JsonObject:
    """Return the object under a key, or an empty one."""
    value = body.get(key)
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def members(body: JsonObject, key: str) -> list[JsonObject]:
    """Return the objects in the list under a key."""
    value = body.get(key)
    if not isinstance(value, list):
        return []
    return [cast("JsonObject", item) for item in cast("list[object]", value) if isinstance(item, dict)]


def first(body: JsonObject, key: str) -> JsonObject:
    """Return the first object in the list under a key, or an empty one."""
    return next(iter(members(body, key)), dict[str, Any]())


def text(body: JsonObject, key: str) -> str | None:
    """Return the text under a key, or None."""
    value = body.get(key)
    return value if isinstance(value, str) else None


def count(body: JsonObject, key: str) -> int | None:
    """Return the token count under a key, or None."""
    value = body.get(key)
    return value if isinstance(value, int) and value >= 0 and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Served:
    """The facts about a reply besides its text."""

    usage: Usage | None = None
    model: str | None = None
    tier: str | None = None
    request_id: str | None = None


def request_id(headers: Mapping[str, str], body_id: str | None) -> str | None:
    """Return the id that the provider's support needs: the header's, else the one in the body."""
    return headers.get("x-request-id") or headers.get("request-id") or body_id


def settle(content: str, ending: Finish | Fault, why: str, served: Served) -> Outcome:
    """Turn a reply that arrived whole into an outcome.

    A reply that ended by itself and has only white space is broken: models do this now and then, and a
    retry mostly works. One that hit its limit before the first word, because reasoning took all
    tokens, is kept as truncated.

    Args:
        content: the text.
        ending: how it ended, or the fault that its ending means.
        why: the provider's reason, for the detail of a failure.
        served: usage, model, tier and request id.
    """
    if isinstance(ending, Fault):
        return billed_failure(ending, why, served, content)
    if ending is Finish.STOP and not content.strip():
        return billed_failure(Fault.BROKEN_REPLY, "the reply ended by itself and is empty", served, content)
    return Completion(content, ending, served.usage, served.model, served.tier, served.request_id)


def billed_failure(fault: Fault, detail: str, served: Served, content: str = "") -> Failure:
    """Return a failure that the provider charged for, or may have."""
    return Failure(
        fault,
        detail,
        status=200,
        usage=served.usage,
        served_model=served.model,
        tier=served.tier,
        request_id=served.request_id,
        text=content,
        billed=True,
    )


_SHOWN = 400
"""The most characters of a provider's message that are kept."""


def from_transport_failure(failure: TransportFailure) -> Failure:
    """Return the failure of an exchange: transient if nothing was sent, else its outcome is unknown."""
    if failure.sent:
        return Failure(Fault.UNKNOWN_OUTCOME, failure.detail, billed=True)
    return Failure(Fault.TRANSIENT, failure.detail)


def from_reply(family: str, reply: WireReply) -> Failure:
    """Return the failure that an error status and its body mean."""
    body = load(reply.body)
    if body is None:
        message = reply.body[: 4 * _SHOWN].decode("utf-8", "replace")
        body = {"error": {"message": message}}
    return from_error(family, body, reply.headers, Served(), reply.status)


def from_error(
    family: str, body: JsonObject, headers: Mapping[str, str], served: Served, status: int = 200
) -> Failure:
    """Return the failure that an error object means, whatever status it came with.

    Args:
        family: `openai`, `anthropic` or `gemini`.
        body: the object that holds the error, or is the error itself.
        headers: the reply's headers.
        served: the other facts of the reply; with usage, the failure was billed.
        status: the HTTP status.
    """
    signal = read_signal(family, body, headers, status)
    return Failure(
        classify(signal),
        _detail(signal),
        retry_after_s=retry_after_s(signal),
        status=status,
        usage=served.usage,
        served_model=served.model,
        tier=served.tier,
        request_id=served.request_id or request_id(headers, text(body, "request_id")),
        billed=served.usage is not None,
    )


def read_signal(family: str, body: JsonObject, headers: Mapping[str, str], status: int) -> Signal:
    """Read an error in any of the forms that the formats and their imitators use."""
    plain = text(body, "error")
    error = member(body, "error") or ({"message": plain} if plain else body)
    code = error.get("code")
    return Signal(
        family,
        status,
        type=text(error, "type") or text(error, "status"),
        code=str(code) if isinstance(code, str | int) else None,
        message=_message(error),
        details=error.get("details") or error.get("metadata"),
        headers=headers,
    )


def with_text(failure: Failure, content: str, *, begun: bool) -> Failure:
    """Return the failure inside a stream: with the text so far, and whether it may have been billed."""
    return replace(failure, text=content, billed=failure.billed or begun)


def _message(error: JsonObject) -> str:
    message = error.get("message") or error.get("detail") or error.get("title") or ""
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def _detail(signal: Signal) -> str:
    """Return one line for people: status, the exact word, the message."""
    status = status_of(signal) if signal.status == 200 else signal.status  # noqa: PLR2004
    word = signal.type if signal.code is None or signal.code.isdigit() else signal.code
    head = f"{status} {word}" if word else f"{status}"
    message = shortened(" ".join(signal.message.split()), _SHOWN)
    return f"{head}: {message}" if message else head
