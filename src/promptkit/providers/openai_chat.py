"""OpenAI Chat Completions (`POST /chat/completions`), as OpenAI and its many imitators speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptkit.types import Call, Failure, Fault, Finish, JsonObject, Model, Outcome, Provider, WireRequest

from .adapter import NO_HEADERS, EventStream, Reader
from .openai_responses import FAMILY, TIERS, json_schema, read_usage, steering
from .params import Format, fit
from .replies import Served, dump, first, from_error, member, members, request_id, settle, text

_FORMAT: Final = Format(
    "Chat Completions",
    {
        name: name
        for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop")
    },
    TIERS,
)


_ENDINGS: Final[Mapping[str, Finish | Fault]] = {
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
        fitted = fit(call, model, _FORMAT)
        if isinstance(fitted, Failure):
            return fitted
        body: JsonObject = {
            "model": model.id,
            "messages": [{"role": m.role, "content": m.content} for m in fitted.messages],
            provider.max_tokens_field: fitted.max_output_tokens,
            **fitted.sampling,
            **steering(call.prompt, provider, model),
        }
        if fitted.reasoning is not None:
            body["reasoning_effort"] = fitted.reasoning
        if call.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": json_schema(call.schema)}
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
            read_usage(member(body, "usage"), "prompt", "completion"),
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
    ending = _ENDINGS.get(reason or "", Fault.BROKEN_REPLY)
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
        usage = read_usage(self._usage, "prompt", "completion")
        if self._reason is None or not (self._done or usage):
            return None
        known = self._served
        served = Served(usage, known.model, known.tier, known.request_id)
        return _settle(self.said, "".join(self._refusal), self._reason, served)
