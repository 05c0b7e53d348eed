"""OpenAI: the Responses and Chat Completions formats, and the client of the openai package.

Chat Completions (`POST /chat/completions`) is what many other providers speak, too. Responses
(`POST /responses`) is used stateless: `store` is false. System messages stay input items in their
own place, instead of the one `instructions` string: this keeps the order, and with it the prefix
that OpenAI caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

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
    dump,
    first,
    from_error,
    member,
    members,
    request_id,
    settle,
    text,
    with_text,
)
from .schemas import adapted

if TYPE_CHECKING:
    from .http import HttpTransport

FAMILY: Final = "openai"

_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})

_SCHEMA_NAME: Final = "reply"
"""The name of a structured reply's schema; a constant keeps the cached prefix the same."""


def open_openai(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the openai package, for OpenAI and every provider that speaks its formats."""
    import openai

    from .http import open_sdk

    return open_sdk(provider, key, openai.AsyncOpenAI, openai.DefaultAioHttpClient)


_RESPONSES: Final = Format(
    "OpenAI Responses", {"temperature": "temperature", "top_p": "top_p"}, _TIERS | {"ultrafast"}
)

_INCOMPLETE_REASONS: Final[Mapping[str, Finish | Fault]] = {
    "max_output_tokens": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
}
"""Why a reply is incomplete; for any other reason it is broken."""


_TERMINAL_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class OpenAIResponses(Reader):
    """Encodes and decodes OpenAI Responses."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Write a call."""
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
            _usage(member(body, "usage"), "input", "output"),
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
        return settle(said, _INCOMPLETE_REASONS.get(reason, Fault.BROKEN_REPLY), why, served)


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
        if kind in _TERMINAL_EVENTS:
            self._over = self._reader.read(member(event, "response"), self._headers, self.said)
        return ""

    def outcome(self) -> Outcome | None:
        """Nothing but a terminal event ends a response."""
        return None


_CHAT: Final = Format(
    "Chat Completions",
    {
        name: name
        for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop")
    },
    _TIERS,
)

_FINISH_REASONS: Final[Mapping[str, Finish | Fault]] = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "length": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
    "insufficient_system_resource": Fault.TRANSIENT,
    "error": Fault.TRANSIENT,
}
"""What `finish_reason` means, with the words of Mistral, DeepSeek and OpenRouter. Any other is
broken: `tool_calls`, `function_call`, which nobody offered, and words that we don't know."""


class OpenAIChat(Reader):
    """Encodes and decodes Chat Completions."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Write a call."""
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
        raw = dump(body)
        if isinstance(raw, Failure):
            return raw
        return WireRequest("/chat/completions", raw, call.stream, fitted.warnings)

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> ChatStream:
        """Begin to read a streamed reply."""
        return ChatStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], heard: str = "") -> Outcome:
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
        said = _content(message) or heard
        return _settle(said, text(message, "refusal"), text(choice, "finish_reason"), served)


def _content(message: JsonObject) -> str:
    """The text of a message or delta; Mistral's reasoning models give it in parts."""
    content = text(message, "content")
    if content is not None:
        return content
    parts = members(message, "content")
    return "".join(text(part, "text") or "" for part in parts if part.get("type") == "text")


def _settle(said: str, refusal: str | None, reason: str | None, served: Served) -> Outcome:
    if refusal:
        return settle(said, Fault.CONTENT, refusal, served)
    ending = _FINISH_REASONS.get(reason or "", Fault.BROKEN_REPLY)
    return settle(said, ending, f"finish_reason is {reason}", served)


class ChatStream(EventStream):
    """Reads a streamed completion.

    `[DONE]` ends it, or for hosts that leave that out, a finish reason and the usage.
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
        """What the chunks say besides text."""
        return self._served

    def outcome(self) -> Outcome | None:
        """The whole reply, where its end has been said."""
        usage = _usage(self._usage, "prompt", "completion")
        if self._reason is None or not (self._done or usage):
            return None
        known = self._served
        served = Served(usage, known.model, known.tier, known.request_id)
        return _settle(self.said, "".join(self._refusal), self._reason, served)


def _steering(prompt: Prompt, provider: Provider, model: Model) -> JsonObject:
    """The member that steers prompts with one beginning to one cache; none where nothing is cached."""
    prefix = cacheable(prompt, provider, model)
    return {} if prefix is None else {"prompt_cache_key": cache_key(prefix)}


def _json_schema(schema: Mapping[str, Json]) -> JsonObject:
    """The schema as both formats take it: strict, but where strict mode can't express its structure."""
    form = adapted(schema, FAMILY)
    sent = form.schema if form.whole else schema
    return {"name": _SCHEMA_NAME, "schema": dict(sent), "strict": form.whole}


def _usage(usage: JsonObject, given: str, made: str) -> Usage | None:
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
