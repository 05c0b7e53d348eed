"""Requests and replies without any provider's format, and the errors that answer a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from promptkit.types import JsonObject

from .models import Tokens
from .prompt_cache import CacheBreakpoint

Body = JsonObject
"""The JSON object of a request or a response."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request as the model sees it.

    Attributes:
        prompt: all text of the prompt in the order in which the model reads it (tools or schema,
            system, messages). Input tokens are counted from its UTF-8 bytes.
        topic: the last block of the prompt, which the reply takes its words from.
        given: the wire names of the parameters in the request.
        effort: the word or kind of reasoning; None if there is none.
        thinking: how many tokens the model may spend on reasoning.
        cache_key: OpenAI's prompt_cache_key; calls with another key use another machine's cache.
        usage_wanted: whether a stream should contain its usage (an option of Chat Completions).
    """

    model: str
    prompt: str
    topic: str = ""
    max_tokens: int | None = None
    stream: bool = False
    schema: Mapping[str, Any] | None = None
    given: frozenset[str] = frozenset()
    effort: str | None = None
    thinking: int = 0
    tier: str | None = None
    marks: tuple[CacheBreakpoint, ...] = ()
    implicit_cache: bool = True
    cache_key: str = ""
    stops: tuple[str, ...] = ()
    usage_wanted: bool = True


class FinishReason(StrEnum):
    """How a reply ends.

    A content filter cuts a FILTER reply. A BLOCKED prompt has no reply at all (Gemini).
    """

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    REFUSAL = "refusal"
    FILTER = "filter"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class ModelReply:
    """The model's reply; `tokens` is None if the response leaves out its usage."""

    id: str
    created: int
    model: str
    text: str
    end: FinishReason
    tokens: Tokens | None
    tier: str | None = None
    stop: str | None = None


class RequestRefused(Exception):
    """The request gets an error response. `code` and `param` go into the provider's JSON."""

    def __init__(
        self, fault: str, message: str | None = None, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message or fault)
        self.fault = fault
        self.message = message
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error as it is sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    content_type: str = "application/json"
