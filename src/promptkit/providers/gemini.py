"""Gemini generateContent (`POST /models/ID:generateContent`, `:streamGenerateContent?alt=sse`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from promptkit.types import (
    Call,
    Failure,
    Fault,
    Finish,
    JsonObject,
    Model,
    Outcome,
    Provider,
    Role,
    Usage,
    WireRequest,
)

from .adapter import NO_HEADERS, EventStream, Reader
from .params import Format, fit, split_system
from .replies import Served, count, dump, first, from_error, member, members, request_id, settle, text
from .schemas import adapted

FAMILY: Final = "gemini"


_FORMAT: Final = Format(
    "Gemini generateContent",
    {
        "temperature": "temperature",
        "top_p": "topP",
        "top_k": "topK",
        "frequency_penalty": "frequencyPenalty",
        "presence_penalty": "presencePenalty",
        "seed": "seed",
        "stop": "stopSequences",
    },
    frozenset({"flex", "priority"}),
    least_budget=512,
)


_ROLES: Final = {Role.USER: "user", Role.ASSISTANT: "model"}


ENDINGS: Final[Mapping[str, Finish | Fault]] = {
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.LENGTH,
    "CONTINUATION": Finish.LENGTH,
    "SAFETY": Fault.CONTENT,
    "RECITATION": Fault.CONTENT,
    "LANGUAGE": Fault.CONTENT,
    "BLOCKLIST": Fault.CONTENT,
    "PROHIBITED_CONTENT": Fault.CONTENT,
    "SPII": Fault.CONTENT,
    "ESCALATION": Fault.CONTENT,
    "MODEL_ARMOR": Fault.CONTENT,
    "IMAGE_SAFETY": Fault.CONTENT,
    "IMAGE_PROHIBITED_CONTENT": Fault.CONTENT,
    "IMAGE_RECITATION": Fault.CONTENT,
    # The account itself is limited or disabled.
    "PUP_LIMITED_DISABLED": Fault.AUTH,
    "MISSING_THOUGHT_SIGNATURE": Fault.INVALID_REQUEST,
    "OTHER": Fault.BROKEN_REPLY,
    "IMAGE_OTHER": Fault.BROKEN_REPLY,
    "NO_IMAGE": Fault.BROKEN_REPLY,
    "MALFORMED_RESPONSE": Fault.BROKEN_REPLY,
    "MALFORMED_FUNCTION_CALL": Fault.BROKEN_REPLY,
    "UNEXPECTED_TOOL_CALL": Fault.BROKEN_REPLY,
    "TOO_MANY_TOOL_CALLS": Fault.BROKEN_REPLY,
    "FINISH_REASON_UNSPECIFIED": Fault.BROKEN_REPLY,
}
"""What `finishReason` means; a word that isn't here is broken."""


class GeminiGenerate(Reader):
    """Encodes and decodes Gemini generateContent."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Write a call."""
        del provider
        fitted = fit(call, model, _FORMAT)
        if isinstance(fitted, Failure):
            return fitted
        prompt = split_system(fitted.messages)
        config: JsonObject = {"maxOutputTokens": fitted.max_output_tokens, **fitted.sampling}
        if fitted.reasoning is not None:
            config["thinkingConfig"] = _thinking(fitted.reasoning)
        if call.schema is not None:
            config["responseMimeType"] = "application/json"
            config["responseJsonSchema"] = dict(adapted(call.schema, FAMILY).schema)
        contents = [{"role": _ROLES[m.role], "parts": [{"text": m.content}]} for m in prompt.turns]
        body: JsonObject = {"contents": contents, "generationConfig": config}
        if prompt.system:
            body["systemInstruction"] = {"parts": [{"text": content} for content in prompt.system]}
        if fitted.tier is not None:
            body["serviceTier"] = fitted.tier
        raw = dump(body)
        if isinstance(raw, Failure):
            return raw
        return WireRequest(_path(model, call), raw, call.stream, (*fitted.warnings, *prompt.warnings))

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> GenerateStream:
        """Begin to read a streamed reply."""
        return GenerateStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], heard: str = "") -> Outcome:
        """Read a GenerateContentResponse."""
        served = _served(body, headers)
        if body.get("error"):
            return from_error(FAMILY, body, headers, served)
        blocked = text(member(body, "promptFeedback"), "blockReason")
        if blocked is not None and not body.get("candidates"):
            return settle(heard, Fault.CONTENT, f"the prompt was blocked: {blocked}", served)
        candidate = first(body, "candidates")
        reason = text(candidate, "finishReason") or "missing"
        why = ": ".join(filter(None, (f"finishReason is {reason}", text(candidate, "finishMessage"))))
        said = _text_of(candidate) or heard
        return settle(said, ENDINGS.get(reason, Fault.BROKEN_REPLY), why, served)


def _path(model: Model, call: Call) -> str:
    name = model.id if "/" in model.id else f"models/{model.id}"
    verb = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
    return f"/{quote(name)}:{verb}"


def _thinking(level: str | int) -> JsonObject:
    """A budget of tokens (0 is off, -1 leaves it to the model) or a level's word."""
    return {"thinkingBudget": level} if isinstance(level, int) else {"thinkingLevel": level.upper()}


def _text_of(candidate: JsonObject) -> str:
    """The text of a candidate without its thoughts."""
    parts = members(member(candidate, "content"), "parts")
    return "".join(text(part, "text") or "" for part in parts if part.get("thought") is not True)


def _served(body: JsonObject, headers: Mapping[str, str]) -> Served:
    usage = member(body, "usageMetadata")
    return Served(
        _usage(usage),
        text(body, "modelVersion"),
        headers.get("x-gemini-service-tier") or text(usage, "serviceTier"),
        request_id(headers, text(body, "responseId")),
    )


def _usage(usage: JsonObject) -> Usage | None:
    """Gemini counts thoughts beside its candidates; ours are part of the output."""
    prompt = count(usage, "promptTokenCount")
    if prompt is None:
        return None
    thoughts = count(usage, "thoughtsTokenCount") or 0
    return Usage(
        input_tokens=prompt + (count(usage, "toolUsePromptTokenCount") or 0),
        output_tokens=(count(usage, "candidatesTokenCount") or 0) + thoughts,
        cache_read_tokens=count(usage, "cachedContentTokenCount") or 0,
        reasoning_tokens=thoughts,
    )


class GenerateStream(EventStream):
    """Reads a stream of GenerateContentResponses: each brings new text, the last the finish reason."""

    def __init__(self, reader: GeminiGenerate, headers: Mapping[str, str]) -> None:
        super().__init__(reader, headers)
        self._last: JsonObject = {}
        self._candidate: JsonObject = {}

    def take(self, event: JsonObject) -> str:
        """Take one response; of each member the latest counts."""
        self._last |= {key: value for key, value in event.items() if key != "candidates"}
        candidate = first(event, "candidates")
        self._candidate |= {key: value for key, value in candidate.items() if key != "content"}
        return _text_of(candidate)

    def served(self) -> Served:
        """What the responses say besides text; the usage so far is not the usage."""
        known = _served(self._last, self._headers)
        return Served(None, known.model, known.tier, known.request_id)

    def so_far(self) -> Usage | None:
        """What the latest response counts."""
        return _usage(member(self._last, "usageMetadata"))

    def outcome(self) -> Outcome | None:
        """The whole reply, where a finish reason or a block has been said."""
        if "finishReason" not in self._candidate and not member(self._last, "promptFeedback").get(
            "blockReason"
        ):
            return None
        body = {**self._last, "candidates": [self._candidate] if self._candidate else []}
        return self._reader.read(body, self._headers, self.said)
