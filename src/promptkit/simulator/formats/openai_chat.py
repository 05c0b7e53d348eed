"""OpenAI Chat Completions, which every OpenAI-compatible host uses too."""

from __future__ import annotations

from typing import Any

from promptkit.simulator import sdk_validation
from promptkit.simulator.formats import openai_shared
from promptkit.simulator.models import ProviderFamily, Tokens
from promptkit.simulator.requests import Body, FinishReason, ModelReply, ModelRequest

from .base import EFFORT_TOKENS, PromptText, StreamEvents, WireFormat, data, inner, pieces

_DONE = b"data: [DONE]\n\n"
_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.REFUSAL: "stop",
    FinishReason.FILTER: "content_filter",
    FinishReason.BLOCKED: "content_filter",
}


def read(body: Body, model: str | None, stream: bool) -> ModelRequest:  # noqa: ARG001, FBT001 - one signature for all formats
    """Read a Chat Completions body."""
    prompt = PromptText()
    form = openai_shared.schema_of(inner(inner(body, "response_format"), "json_schema"), "response_format")
    prompt.value(form)
    prompt.value(body.get("tools"))
    for message in body["messages"]:
        prompt.content(message.get("content"))
    stop = body.get("stop") or ()
    limit = body.get("max_completion_tokens")
    effort = body.get("reasoning_effort")
    return ModelRequest(
        model=body["model"],
        prompt=str(prompt),
        topic=prompt.topic,
        max_tokens=body.get("max_tokens") if limit is None else limit,
        stream=bool(body.get("stream")),
        schema=form,
        given=frozenset(name for name, value in body.items() if value is not None),
        effort=effort,
        thinking=EFFORT_TOKENS.get(effort or "none", 0),
        tier=openai_shared.tier_of(body),
        implicit_cache=openai_shared.caches(body),
        cache_key=body.get("prompt_cache_key") or "",
        stops=(stop,) if isinstance(stop, str) else tuple(stop),
        usage_wanted=bool(inner(body, "stream_options").get("include_usage")),
    )


def usage_json(tokens: Tokens) -> Body:
    """Return the usage; `prompt_tokens` includes cached tokens."""
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write_5m,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def whole(request: ModelRequest, reply: ModelReply) -> Body:  # noqa: ARG001 - one signature for all formats
    """Return a `chat.completion`."""
    refused = reply.end is FinishReason.REFUSAL
    message: Body = {
        "role": "assistant",
        "content": None if refused else reply.text,
        "refusal": reply.text if refused else None,
        "annotations": [],
    }
    choice: Body = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[reply.end]}
    usage = {} if reply.tokens is None else {"usage": usage_json(reply.tokens)}
    return {**_head(reply, "chat.completion"), "choices": [choice], **usage}


def events(request: ModelRequest, reply: ModelReply) -> StreamEvents:
    """Return `chat.completion.chunk`s, the usage in a chunk of its own if it was requested, and `[DONE]`."""
    usage: Body = {"usage": None} if request.usage_wanted else {}
    head = {**_head(reply, "chat.completion.chunk"), **usage}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return data(
            {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        )

    word = "refusal" if reply.end is FinishReason.REFUSAL else "content"
    first = chunk({"role": "assistant", "content": "" if word == "content" else None, "refusal": None})
    tail = [chunk({}, _FINISH[reply.end])]
    if request.usage_wanted and reply.tokens is not None:
        tail.append(data({**head, "choices": [], "usage": usage_json(reply.tokens)}))
    return StreamEvents([first, *(chunk({word: piece}) for piece in pieces(reply.text))], [*tail, _DONE])


def _head(reply: ModelReply, kind: str) -> Body:
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "service_tier": reply.tier or "default",
        "system_fingerprint": "fp_simulator",
    }


def error_event(body: Body) -> bytes:
    """Return an error inside a stream."""
    return data(body)


FORMAT = WireFormat(
    ProviderFamily.OPENAI, sdk_validation.lazily(sdk_validation.openai_chat), read, whole, events, error_event
)
