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
    Json,
    JsonObject,
    Model,
    Outcome,
    Prompt,
    Provider,
    Usage,
    WireRequest,
)

from .adapter import NO_HEADERS, EventStream, Reader
from .params import Format, cache_key, cacheable, fit
from .replies import Served, count, dump, from_error, member, members, request_id, settle, text, with_text
from .schemas import adapted

TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


_FORMAT: Final = Format(
    "OpenAI Responses", {"temperature": "temperature", "top_p": "top_p"}, TIERS | {"ultrafast"}
)


_INCOMPLETE: Final[Mapping[str, Finish | Fault]] = {
    "max_output_tokens": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
}
"""Why a reply is incomplete; for any other reason it is broken."""


_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


FAMILY: Final = "openai"


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


_NAME: Final = "reply"
"""What the schema of a structured reply is called; a constant keeps the cached prefix the same."""


def steering(prompt: Prompt, provider: Provider, model: Model) -> JsonObject:
    """The member that steers prompts with one beginning to one cache; none where nothing is cached."""
    prefix = cacheable(prompt, provider, model)
    return {} if prefix is None else {"prompt_cache_key": cache_key(prefix)}


def json_schema(schema: Mapping[str, Json]) -> JsonObject:
    """The schema as both formats take it: strict, but where strict mode can't express its structure."""
    form = adapted(schema, FAMILY)
    sent = form.schema if form.whole else schema
    return {"name": _NAME, "schema": dict(sent), "strict": form.whole}


def read_usage(usage: JsonObject, given: str, made: str) -> Usage | None:
    """Read usage; None where it doesn't count both ways.

    Args:
        usage: the object, empty where there is none.
        given: what the format calls input (`input` or `prompt`).
        made: what it calls output (`output` or `completion`).
    """
    input_tokens = count(usage, f"{given}_tokens")
    output_tokens = count(usage, f"{made}_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    of_input = member(usage, f"{given}_tokens_details")
    reasoning = count(member(usage, f"{made}_tokens_details"), "reasoning_tokens") or 0
    return Usage(
        input_tokens=input_tokens,
        # Some hosts count reasoning beside the completion: more of it than of all tells them apart.
        output_tokens=output_tokens if reasoning <= output_tokens else output_tokens + reasoning,
        cache_read_tokens=count(of_input, "cached_tokens") or 0,
        cache_write_tokens=count(of_input, "cache_write_tokens") or 0,
        reasoning_tokens=reasoning,
    )
