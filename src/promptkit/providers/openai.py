"""OpenAI: the Responses and Chat Completions formats, and the client of the openai package.

Chat Completions (`POST /chat/completions`) is what many other providers speak, too. Responses
(`POST /responses`) is used stateless: `store` is false. System messages stay input items in their
own place, instead of the one `instructions` string: this keeps the order, and with it the prefix
that OpenAI caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
from .replies import (
    Served,
    count,
    first,
    from_error,
    member,
    members,
    request_id,
    settle,
    text,
    wire_request,
    with_text,
)
from .schemas import adapted

if TYPE_CHECKING:
    from .http import HttpTransport

FAMILY = "openai"

_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})

_SCHEMA_NAME = "reply"
"""The name of a structured reply's schema; a constant keeps the cached prefix the same."""


def open_openai(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the openai package, for OpenAI and every provider that speaks its formats."""
    import openai

    from .http import open_sdk

    return open_sdk(provider, key, openai.AsyncOpenAI, openai.DefaultAioHttpClient)


_RESPONSES = Format(
    "OpenAI Responses", {"temperature": "temperature", "top_p": "top_p"}, _TIERS | {"ultrafast"}
)

_INCOMPLETE_REASONS: Mapping[str, Finish | Fault] = {
    "max_output_tokens": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
}
"""The reasons why a reply can be incomplete; with any other it is broken."""

_TERMINAL_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class OpenAIResponses(Reader):
    """The OpenAI Responses format."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Encode a call."""
        fitted = fit(call, model, _RESPONSES)
        if isinstance(fitted, Failure):
            return fitted
        body: JsonObject = {
            "model": model.id,
            "input": [{"role": m.role, "content": m.content} for m in fitted.messages],
            "max_output_tokens": fitted.max_output_tokens,
            "store": False,
            **fitted.sampling,
            **_steering(call.prompt, provider, model),
        }
        if fitted.reasoning is not None:
            body["reasoning"] = {"effort": fitted.reasoning}
        if call.schema is not None:
            body["text"] = {"format": {"type": "json_schema", **_json_schema(call.schema)}}
        if fitted.tier is not None:
            body["service_tier"] = fitted.tier
        if call.stream:
            body["stream"] = True
        return wire_request("/responses", body, call, fitted.warnings)

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> ResponsesStream:
        """Return a decoder of a streamed reply."""
        return ResponsesStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], streamed: str = "") -> Outcome:
        """Read a response object."""
        served = Served(
            _usage(member(body, "usage"), "input", "output"),
            text(body, "model"),
            text(body, "service_tier"),
            request_id(headers, text(body, "id")),
        )
        content, refusal = _output(body)
        content = content or streamed
        if body.get("error"):
            return with_text(from_error(FAMILY, body, headers, served), content, begun=bool(content))
        if refusal:
            return settle(content, Fault.CONTENT, refusal, served)
        status = text(body, "status")
        if status == "completed":
            return settle(content, Finish.STOP, status, served)
        reason = text(member(body, "incomplete_details"), "reason") or "unknown"
        why = f"the response is {status}: {reason}" if status == "incomplete" else f"the response is {status}"
        return settle(content, _INCOMPLETE_REASONS.get(reason, Fault.BROKEN_REPLY), why, served)


def _output(body: JsonObject) -> tuple[str, str]:
    """Return all text and all refusals of the output's messages."""
    content: list[str] = []
    refused: list[str] = []
    for item in members(body, "output"):
        for part in members(item, "content") if item.get("type") == "message" else ():
            content.append((text(part, "text") or "") if part.get("type") == "output_text" else "")
            refused.append((text(part, "refusal") or "") if part.get("type") == "refusal" else "")
    return "".join(content), "".join(refused)


class ResponsesStream(EventStream):
    """A decoder of a streamed response, whose last event repeats it whole."""

    def take(self, event: JsonObject) -> str:
        """Take one event."""
        kind = text(event, "type")
        if kind == "response.output_text.delta":
            return text(event, "delta") or ""
        if kind in _TERMINAL_EVENTS:
            self._over = self._reader.read(member(event, "response"), self._headers, self.text)
        return ""

    def outcome(self) -> Outcome | None:
        """Return None: only a terminal event ends a response."""
        return None


_CHAT = Format(
    "Chat Completions",
    {
        name: name
        for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop")
    },
    _TIERS,
)

_FINISH_REASONS: Mapping[str, Finish | Fault] = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "length": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
    "insufficient_system_resource": Fault.TRANSIENT,
    "error": Fault.TRANSIENT,
}
"""The meaning of `finish_reason`, with the words of Mistral, DeepSeek and OpenRouter. Any other is
broken: `tool_calls` and `function_call`, which are never offered, and unknown words."""


class OpenAIChat(Reader):
    """The Chat Completions format."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Encode a call."""
        fitted = fit(call, model, _CHAT)
        if isinstance(fitted, Failure):
            return fitted
        body: JsonObject = {
            "model": model.id,
            "messages": [{"role": m.role, "content": m.content} for m in fitted.messages],
            provider.max_tokens_field: fitted.max_output_tokens,
            **fitted.sampling,
            **_steering(call.prompt, provider, model),
        }
        if fitted.reasoning is not None:
            body["reasoning_effort"] = fitted.reasoning
        if call.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": _json_schema(call.schema)}
        if fitted.tier is not None:
            body["service_tier"] = fitted.tier
        if call.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        return wire_request("/chat/completions", body, call, fitted.warnings)

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> ChatStream:
        """Return a decoder of a streamed reply."""
        return ChatStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], streamed: str = "") -> Outcome:
        """Read a completion object."""
        served = Served(
            _usage(member(body, "usage"), "prompt", "completion"),
            text(body, "model"),
            text(body, "service_tier"),
            request_id(headers, text(body, "id")),
        )
        if body.get("error"):
            return from_error(FAMILY, body, headers, served)
        choice = first(body, "choices")
        message = member(choice, "message")
        content = _content(message) or streamed
        return _settle(content, text(message, "refusal"), text(choice, "finish_reason"), served)


def _content(message: JsonObject) -> str:
    """Return the text of a message or delta; Mistral's reasoning models send it in parts."""
    content = text(message, "content")
    if content is not None:
        return content
    parts = members(message, "content")
    return "".join(text(part, "text") or "" for part in parts if part.get("type") == "text")


def _settle(content: str, refusal: str | None, reason: str | None, served: Served) -> Outcome:
    if refusal:
        return settle(content, Fault.CONTENT, refusal, served)
    ending = _FINISH_REASONS.get(reason or "", Fault.BROKEN_REPLY)
    return settle(content, ending, f"finish_reason is {reason}", served)


class ChatStream(EventStream):
    """A decoder of a streamed completion.

    `[DONE]` ends it or, for hosts that omit that, a finish reason and the usage.
    """

    def __init__(self, reader: OpenAIChat, headers: Mapping[str, str]) -> None:
        super().__init__(reader, headers)
        self._served = Served(request_id=request_id(headers, None))
        self._refusal: list[str] = []
        self._reason: str | None = None
        self._usage: JsonObject = {}

    def take(self, event: JsonObject) -> str:
        """Take one chunk."""
        self._served = Served(
            None,
            text(event, "model") or self._served.model,
            text(event, "service_tier") or self._served.tier,
            self._served.request_id or text(event, "id"),
        )
        self._usage = member(event, "usage") or self._usage
        choice = first(event, "choices")
        self._reason = text(choice, "finish_reason") or self._reason
        delta = member(choice, "delta")
        self._refusal.append(text(delta, "refusal") or "")
        return _content(delta)

    def served(self) -> Served:
        """Return what the chunks contain besides text."""
        return self._served

    def outcome(self) -> Outcome | None:
        """Return the whole reply after its end."""
        usage = _usage(self._usage, "prompt", "completion")
        if self._reason is None or not (self._done or usage):
            return None
        known = self._served
        served = Served(usage, known.model, known.tier, known.request_id)
        return _settle(self.text, "".join(self._refusal), self._reason, served)


def _steering(prompt: Prompt, provider: Provider, model: Model) -> JsonObject:
    """Return the member that routes prompts with the same beginning to one cache; empty without caching."""
    prefix = cacheable(prompt, provider, model)
    return {} if prefix is None else {"prompt_cache_key": cache_key(prefix)}


def _json_schema(schema: Mapping[str, Json]) -> JsonObject:
    """Return the schema as both formats take it: strict, unless strict mode can't express its structure."""
    form = adapted(schema, FAMILY)
    sent = form.schema if form.whole else schema
    return {"name": _SCHEMA_NAME, "schema": dict(sent), "strict": form.whole}


def _usage(usage: JsonObject, given: str, generated: str) -> Usage | None:
    """Read usage; None if it doesn't count both input and output.

    Args:
        usage: the object; empty if there is none.
        given: the format's word for input (`input` or `prompt`).
        generated: its word for output (`output` or `completion`).
    """
    input_tokens = count(usage, f"{given}_tokens")
    output_tokens = count(usage, f"{generated}_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    of_input = member(usage, f"{given}_tokens_details")
    reasoning = count(member(usage, f"{generated}_tokens_details"), "reasoning_tokens") or 0
    return Usage(
        input_tokens=input_tokens,
        # Some hosts count reasoning beside the completion: more of it than of all tells them apart.
        output_tokens=output_tokens if reasoning <= output_tokens else output_tokens + reasoning,
        cache_read_tokens=count(of_input, "cached_tokens") or 0,
        cache_write_tokens=count(of_input, "cache_write_tokens") or 0,
        reasoning_tokens=reasoning,
    )
