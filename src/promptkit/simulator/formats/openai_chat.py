"""OpenAI Chat Completions, which every OpenAI-compatible host speaks too."""

from __future__ import annotations

from typing import Any, Final

from promptkit.simulator import validation as strict
from promptkit.simulator.formats import openai_shared
from promptkit.simulator.models import Family, Tokens
from promptkit.simulator.requests import Answer, Asked, Body, End

from .base import EFFORT_TOKENS, Events, Format, PromptText, data, inner, pieces

_DONE: Final = b"data: [DONE]\n\n"


_FINISH: Final = {
    End.STOP: "stop",
    End.STOP_SEQUENCE: "stop",
    End.LENGTH: "length",
    End.REFUSAL: "stop",
    End.FILTER: "content_filter",
    End.BLOCKED: "content_filter",
}


def read(body: Body, model: str | None, stream: bool) -> Asked:  # noqa: ARG001, FBT001  one signature for all formats
    """What a Chat Completions body asks."""
    prompt = PromptText()
    form = openai_shared.schema_of(inner(inner(body, "response_format"), "json_schema"), "response_format")
    prompt.value(form)
    prompt.value(body.get("tools"))
    for message in body["messages"]:
        prompt.content(message.get("content"))
    stop = body.get("stop") or ()
    limit = body.get("max_completion_tokens")
    effort = body.get("reasoning_effort")
    return Asked(
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
    """Usage as Chat Completions tells it: cached tokens are part of `prompt_tokens`."""
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


def whole(asked: Asked, answer: Answer) -> Body:  # noqa: ARG001  one signature for all formats
    """A `chat.completion`."""
    refused = answer.end is End.REFUSAL
    message: Body = {
        "role": "assistant",
        "content": None if refused else answer.text,
        "refusal": answer.text if refused else None,
        "annotations": [],
    }
    choice: Body = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[answer.end]}
    usage = {} if answer.tokens is None else {"usage": usage_json(answer.tokens)}
    return {**_head(answer, "chat.completion"), "choices": [choice], **usage}


def events(asked: Asked, answer: Answer) -> Events:
    """`chat.completion.chunk`s, the usage in a chunk of its own where it was asked for, `[DONE]`."""
    usage: Body = {"usage": None} if asked.usage_wanted else {}
    head = {**_head(answer, "chat.completion.chunk"), **usage}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return data(
            {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        )

    word = "refusal" if answer.end is End.REFUSAL else "content"
    first = chunk({"role": "assistant", "content": "" if word == "content" else None, "refusal": None})
    tail = [chunk({}, _FINISH[answer.end])]
    if asked.usage_wanted and answer.tokens is not None:
        tail.append(data({**head, "choices": [], "usage": usage_json(answer.tokens)}))
    return Events([first, *(chunk({word: piece}) for piece in pieces(answer.text))], [*tail, _DONE])


def _head(answer: Answer, kind: str) -> Body:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "service_tier": answer.tier or "default",
        "system_fingerprint": "fp_simulator",
    }


def error_event(body: Body) -> bytes:
    """An error in mid-stream."""
    return data(body)


FORMAT: Final = Format(Family.OPENAI, strict.lazily(strict.openai_chat), read, whole, events, error_event)
