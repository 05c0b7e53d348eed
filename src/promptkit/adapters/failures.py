"""Errors as providers write them, turned into failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from promptkit.routing.faults import Signal, classify, retry_after_s
from promptkit.routing.signal import status_of
from promptkit.types import Failure, Fault, JsonObject, WireBreak, WireReply

from .wire import Served, load, member, request_id, text

_SHOWN: Final = 400
"""So many characters of a provider's message are kept."""


def from_break(broken: WireBreak) -> Failure:
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
