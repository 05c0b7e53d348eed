"""Gemini: the generateContent format, and the client of the google-genai package.

Calls go to `POST /models/ID:generateContent`, streamed ones to `:streamGenerateContent?alt=sse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
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
from .replies import Served, count, first, from_error, member, members, request_id, settle, text, wire_request
from .schemas import adapted

if TYPE_CHECKING:
    from .http import HttpTransport

FAMILY = "gemini"

_API_VERSION = "v1beta"

_MODELS_PER_PAGE = 1000

_WIRE_HEADERS = frozenset(("host", "connection", "content-length", "accept-encoding", "accept"))
"""Headers that aiohttp sets for each request."""


def open_genai(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the google-genai package; it neither retries nor follows redirects.

    The package shows neither its address nor its headers: both are taken from a request for its models
    that goes no further than a recorder.
    """
    import httpx2
    from google import genai
    from google.genai import types

    from .http import HttpTransport, Wire, allowed_headers, checked_key, header_rule

    may_send = header_rule(provider, key)
    wire = Wire(connect_timeout_s=provider.connect_timeout_s, may_send=may_send)
    http = httpx2.AsyncClient(transport=wire, trust_env=False, follow_redirects=False)
    requests: list[httpx2.Request] = []

    def record(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json={"models": []})

    sdk = genai.Client(
        api_key=checked_key(key, provider),
        vertexai=False,  # else GOOGLE_GENAI_USE_VERTEXAI decides
        http_options=types.HttpOptions(
            base_url=provider.base_url,
            api_version=provider.api_version or _API_VERSION,
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_client=httpx2.Client(transport=httpx2.MockTransport(record)),
            httpx_async_client=http,
        ),
    )
    sdk.models.list()
    address = str(requests[0].url.copy_with(query=None))

    async def list_models() -> list[str]:
        models = await sdk.aio.models.list(config=types.ListModelsConfig(page_size=_MODELS_PER_PAGE))
        return [(model.name or "").removeprefix("models/") async for model in models]

    return HttpTransport(
        wire=wire,
        base_url=address.removesuffix("/models"),
        headers=allowed_headers(
            requests[0].headers, lambda name: name not in _WIRE_HEADERS and may_send(name)
        ),
        http=http,
        list_models=list_models,
        key=key,
    )


_FORMAT = Format(
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

_ROLES = {Role.USER: "user", Role.ASSISTANT: "model"}

ENDINGS: Mapping[str, Finish | Fault] = {
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
"""The meaning of `finishReason`; any other is broken."""


class GeminiGenerate(Reader):
    """The Gemini generateContent format."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Encode a call."""
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
        contents = [{"role": _ROLES[m.role], "parts": [{"text": m.content}]} for m in prompt.conversation]
        body: JsonObject = {"contents": contents, "generationConfig": config}
        if prompt.system:
            body["systemInstruction"] = {"parts": [{"text": content} for content in prompt.system]}
        if fitted.tier is not None:
            body["serviceTier"] = fitted.tier
        return wire_request(_path(model, call), body, call, (*fitted.warnings, *prompt.warnings))

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> GenerateStream:
        """Return a decoder of a streamed reply."""
        return GenerateStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], streamed: str = "") -> Outcome:
        """Read a GenerateContentResponse."""
        served = _served(body, headers)
        if body.get("error"):
            return from_error(FAMILY, body, headers, served)
        blocked = text(member(body, "promptFeedback"), "blockReason")
        if blocked is not None and not body.get("candidates"):
            return settle(streamed, Fault.CONTENT, f"the prompt was blocked: {blocked}", served)
        candidate = first(body, "candidates")
        reason = text(candidate, "finishReason") or "missing"
        why = ": ".join(filter(None, (f"finishReason is {reason}", text(candidate, "finishMessage"))))
        content = _text_of(candidate) or streamed
        return settle(content, ENDINGS.get(reason, Fault.BROKEN_REPLY), why, served)


def _path(model: Model, call: Call) -> str:
    name = model.id if "/" in model.id else f"models/{model.id}"
    verb = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
    return f"/{quote(name)}:{verb}"


def _thinking(level: str | int) -> JsonObject:
    """Return a budget of tokens (0 is off, -1 leaves it to the model) or the word of a level."""
    return {"thinkingBudget": level} if isinstance(level, int) else {"thinkingLevel": level.upper()}


def _text_of(candidate: JsonObject) -> str:
    """Return the text of a candidate without its thoughts."""
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
    """Read usage. Gemini counts thoughts beside its candidates; ours are part of the output."""
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
    """A decoder of a stream of GenerateContentResponses: each has new text, the last the finish reason."""

    def __init__(self, reader: GeminiGenerate, headers: Mapping[str, str]) -> None:
        super().__init__(reader, headers)
        self._last: JsonObject = {}
        self._candidate: JsonObject = {}

    def take(self, event: JsonObject) -> str:
        """Take one response; the latest value of each member counts."""
        self._last |= {key: value for key, value in event.items() if key != "candidates"}
        candidate = first(event, "candidates")
        self._candidate |= {key: value for key, value in candidate.items() if key != "content"}
        return _text_of(candidate)

    def served(self) -> Served:
        """Return what the responses contain besides text; the usage so far is not the final one."""
        known = _served(self._last, self._headers)
        return Served(None, known.model, known.tier, known.request_id)

    def so_far(self) -> Usage | None:
        """Return the counts of the latest response."""
        return _usage(member(self._last, "usageMetadata"))

    def outcome(self) -> Outcome | None:
        """Return the whole reply after a finish reason or a block."""
        if "finishReason" not in self._candidate and not member(self._last, "promptFeedback").get(
            "blockReason"
        ):
            return None
        body = {**self._last, "candidates": [self._candidate] if self._candidate else []}
        return self._reader.read(body, self._headers, self.text)
