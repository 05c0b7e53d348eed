"""The simulator's own words: what a request asks, in no provider's terms, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from promptkit.types import JsonObject

from .models import Tokens
from .prompt_cache import Mark


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the model sees it.

    Attributes:
        prompt: all text of the prompt in the order in which the model reads it (tools or
            schema, system, messages); its UTF-8 bytes are what input tokens are counted from.
        topic: the last block of the prompt, where the reply takes its words from.
        given: the wire names of the parameters that were given.
        effort: the word or kind of reasoning that was asked for, None where nothing was said.
        thinking: how many tokens the model may think, 0 where it should not.
        usage_wanted: whether a stream should tell its usage (Chat Completions asks for it).
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
    marks: tuple[Mark, ...] = ()
    implicit_cache: bool = True
    cache_key: str = ""
    """OpenAI's prompt_cache_key: calls with another one meet another machine's cache."""
    stops: tuple[str, ...] = ()
    usage_wanted: bool = True


class End(StrEnum):
    """How a reply ends."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    REFUSAL = "refusal"
    FILTER = "filter"
    """A content filter or safety block cut the reply."""
    BLOCKED = "blocked"
    """The prompt itself was blocked: no reply at all (Gemini)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says; `tokens` is None where the reply keeps its usage to itself."""

    id: str
    created: int
    model: str
    text: str
    end: End
    tokens: Tokens | None
    tier: str | None = None
    stop: str | None = None


class Refused(Exception):
    """The request is answered with an error. `code` and `param` go into the provider's JSON."""

    def __init__(
        self, fault: str, message: str | None = None, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message or fault)
        self.fault = fault
        self.message = message
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as it goes over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    content_type: str = "application/json"


Body = JsonObject
"""A request's or a reply's JSON object."""
