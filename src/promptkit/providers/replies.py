"""What all wire formats share: JSON both ways, and how a reply becomes an outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from promptkit.routing.faults import Signal, classify, status_of
from promptkit.routing.hints import retry_after_s
from promptkit.types import (
    Completion,
    Failure,
    Fault,
    Finish,
    JsonObject,
    Outcome,
    TransportFailure,
    Usage,
    WireReply,
)

_DUMP: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dump(body: JsonObject) -> bytes | Failure:
    """Write a request's body; a failure where it holds what JSON or UTF-8 can't say."""
    try:
        return _DUMP(body).encode()
    except ValueError as cause:  # NaN, infinity, or half of a surrogate pair
        return Failure(Fault.INVALID_REQUEST, f"the request can't be written as JSON in UTF-8: {cause}")


def load(body: bytes) -> JsonObject | None:
    """Read an object, or the only one in a list (as Gemini wraps errors); None for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(cast("list[object]", value)) == 1:
        value = cast("list[object]", value)[0]
    return cast("JsonObject", value) if isinstance(value, dict) else None


def member(body: JsonObject, key: str) -> JsonObject:
    """The object under a key; an empty one where there is none."""
    value = body.get(key)
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def members(body: JsonObject, key: str) -> list[JsonObject]:
    """The objects in the list under a key."""
    value = body.get(key)
    if not isinstance(value, list):
        return []
    return [cast("JsonObject", item) for item in cast("list[object]", value) if isinstance(item, dict)]


def first(body: JsonObject, key: str) -> JsonObject:
    """The first object in the list under a key; an empty one where there is none."""
    return next(iter(members(body, key)), dict[str, Any]())


def text(body: JsonObject, key: str) -> str | None:
    """The text under a key, None where there is none."""
    value = body.get(key)
    return value if isinstance(value, str) else None


def count(body: JsonObject, key: str) -> int | None:
    """The token count under a key, None where there is none."""
    value = body.get(key)
    return value if isinstance(value, int) and value >= 0 and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Served:
    """What a reply says about itself besides its text."""

    usage: Usage | None = None
    model: str | None = None
    tier: str | None = None
    request_id: str | None = None


def request_id(headers: Mapping[str, str], body_id: str | None) -> str | None:
    """The id that support asks for: the header's, else the one in the body."""
    return headers.get("x-request-id") or headers.get("request-id") or body_id


def settle(said: str, ending: Finish | Fault, why: str, served: Served) -> Outcome:
    """Turn a reply that arrived whole into an outcome.

    A reply that ended by itself and says nothing but white space is a broken one, never an
    answer: models do it now and then, and the next try mostly speaks. One that hit its limit
    before the first word (reasoning ate it) is kept as truncated.

    Args:
        said: the text.
        ending: how it ended, or the fault that its ending means.
        why: the provider's word for it, for the detail of a failure.
        served: usage, model, tier and request id.
    """
    if isinstance(ending, Fault):
        return billed_failure(ending, why, served, said)
    if ending is Finish.STOP and not said.strip():
        return billed_failure(Fault.BROKEN_REPLY, "the reply ended by itself and is empty", served, said)
    return Completion(said, ending, served.usage, served.model, served.tier, served.request_id)


def billed_failure(fault: Fault, detail: str, served: Served, said: str = "") -> Failure:
    """A failure that the provider charged for, or may have."""
    return Failure(
        fault,
        detail,
        status=200,
        usage=served.usage,
        served_model=served.model,
        tier=served.tier,
        request_id=served.request_id,
        text=said,
        billed=True,
    )


_SHOWN: Final = 400
"""So many characters of a provider's message are kept."""


def from_transport_failure(broken: TransportFailure) -> Failure:
    """A failure for an exchange that broke: transient if nothing was sent, else its outcome is unknown."""
    if broken.sent:
        return Failure(Fault.UNKNOWN_OUTCOME, broken.detail, billed=True)
    return Failure(Fault.TRANSIENT, broken.detail)


def from_reply(family: str, reply: WireReply) -> Failure:
    """The failure that an error status and its body mean."""
    body = load(reply.body)
    if body is None:
        message = reply.body[: 4 * _SHOWN].decode("utf-8", "replace")
        body = {"error": {"message": message}}
    return from_error(family, body, reply.headers, Served(), reply.status)


def from_error(
    family: str, body: JsonObject, headers: Mapping[str, str], served: Served, status: int = 200
) -> Failure:
    """The failure that an error object means, whatever status it came with.

    Args:
        family: `openai`, `anthropic` or `gemini`.
        body: the object that holds the error, or is the error itself.
        headers: the reply's headers.
        served: what the reply says besides; with usage, the failure was billed.
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
    """Read an error in any of the shapes that the formats and their imitators give it."""
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


def with_text(failure: Failure, said: str, *, begun: bool) -> Failure:
    """The same failure inside a stream: what had arrived, and that it may have been billed."""
    return replace(failure, text=said, billed=failure.billed or begun)


def _message(error: JsonObject) -> str:
    message = error.get("message") or error.get("detail") or error.get("title") or ""
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def _detail(signal: Signal) -> str:
    """One line for people: status, the exact word, the message."""
    status = status_of(signal) if signal.status == 200 else signal.status  # noqa: PLR2004
    word = signal.type if signal.code is None or signal.code.isdigit() else signal.code
    head = f"{status} {word}" if word else f"{status}"
    message = " ".join(signal.message.split())
    if len(message) > _SHOWN:
        message = message[: _SHOWN - 1] + "…"
    return f"{head}: {message}" if message else head
