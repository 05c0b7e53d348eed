"""OpenAI Responses (`POST /responses`), stateless: `store` is false.

System messages stay input items in their own place, instead of the one `instructions` string:
order is kept, and with it the prefix that OpenAI caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptkit.types import (
    Call,
    Failure,
    Fault,
    Finish,
    JsonObject,
    Model,
    Outcome,
    Provider,
    WireRequest,
)

from .base import NO_HEADERS, EventStream, Reader
from .failures import from_error, with_text
from .openai_common import FAMILY, TIERS, json_schema, read_usage, steering
from .params import Format, fit
from .wire import Served, dump, member, members, request_id, settle, text

_FORMAT: Final = Format(
    "OpenAI Responses", {"temperature": "temperature", "top_p": "top_p"}, TIERS | {"ultrafast"}
)

_INCOMPLETE: Final[Mapping[str, Finish | Fault]] = {
    "max_output_tokens": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
}
"""Why a reply is incomplete; for any other reason it is broken."""

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class OpenAIResponses(Reader):
    """Encodes and decodes OpenAI Responses."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Write a call."""
        fitted = fit(call, model, _FORMAT)
        if isinstance(fitted, Failure):
            return fitted
        body: JsonObject = {
            "model": model.id,
            "input": [{"role": m.role, "content": m.content} for m in fitted.messages],
            "max_output_tokens": fitted.max_output_tokens,
            "store": False,
            **fitted.sampling,
            **steering(call.prompt, provider, model),
        }
        if fitted.reasoning is not None:
            body["reasoning"] = {"effort": fitted.reasoning}
        if call.schema is not None:
            body["text"] = {"format": {"type": "json_schema", **json_schema(call.schema)}}
        if fitted.tier is not None:
            body["service_tier"] = fitted.tier
        if call.stream:
            body["stream"] = True
        raw = dump(body)
        if isinstance(raw, Failure):
            return raw
        return WireRequest("/responses", raw, call.stream, fitted.warnings)

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> ResponsesStream:
        """Begin to read a streamed reply."""
        return ResponsesStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], heard: str = "") -> Outcome:
        """Read a response object."""
        served = Served(
            read_usage(member(body, "usage"), "input", "output"),
            text(body, "model"),
            text(body, "service_tier"),
            request_id(headers, text(body, "id")),
        )
        said, refusal = _output(body)
        said = said or heard
        if body.get("error"):
            return with_text(from_error(FAMILY, body, headers, served), said, begun=bool(said))
        if refusal:
            return settle(said, Fault.CONTENT, refusal, served)
        status = text(body, "status")
        if status == "completed":
            return settle(said, Finish.STOP, status, served)
        reason = text(member(body, "incomplete_details"), "reason") or "unknown"
        why = f"the response is {status}: {reason}" if status == "incomplete" else f"the response is {status}"
        return settle(said, _INCOMPLETE.get(reason, Fault.BROKEN_REPLY), why, served)


def _output(body: JsonObject) -> tuple[str, str]:
    """All text and all refusals of the output's messages."""
    said: list[str] = []
    refused: list[str] = []
    for item in members(body, "output"):
        for part in members(item, "content") if item.get("type") == "message" else ():
            said.append((text(part, "text") or "") if part.get("type") == "output_text" else "")
            refused.append((text(part, "refusal") or "") if part.get("type") == "refusal" else "")
    return "".join(said), "".join(refused)


class ResponsesStream(EventStream):
    """Reads a streamed response: its last event repeats it whole."""

    def take(self, event: JsonObject) -> str:
        """Take one event."""
        kind = text(event, "type")
        if kind == "response.output_text.delta":
            return text(event, "delta") or ""
        if kind in _TERMINAL:
            self._over = self._reader.read(member(event, "response"), self._headers, self.said)
        return ""

    def outcome(self) -> Outcome | None:
        """Nothing but a terminal event ends a response."""
        return None
