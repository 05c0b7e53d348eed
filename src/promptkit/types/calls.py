"""One attempt: the request, the outcome, and the kinds of failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from .prompts import Json, Params, Prompt


@dataclass(frozen=True, slots=True)
class Call:
    """A request for a text, independent of the model."""

    prompt: Prompt
    params: Params
    schema: Mapping[str, Json] | None = None
    tier: str | None = None
    """Service tier (`flex`, `batch`); None is the provider's standard."""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class WireRequest:
    """An encoded call: a path below the provider's `base_url`, and the JSON body as bytes.

    `warnings` names what was left out because the model rejects it.
    """

    path: str
    body: bytes
    stream: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WireReply:
    """A reply that arrived whole, with any status. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """An exchange that failed. `sent` is whether the request may have reached the provider."""

    sent: bool
    detail: str


class Fault(StrEnum):
    """The kind of an attempt's failure: one row of the table in `routing.faults`."""

    TRANSIENT = "transient"
    UNKNOWN_OUTCOME = "unknown_outcome"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    NO_CAPACITY = "no_capacity"
    AUTH = "auth"
    MODEL_GONE = "model_gone"
    CONTEXT_LENGTH = "context_length"
    INVALID_REQUEST = "invalid_request"
    CONTENT = "content"
    BROKEN_REPLY = "broken_reply"
    """Cut on the wire, malformed, or without its terminal event: retried as transient."""
    INVALID_OUTPUT = "invalid_output"
    """A whole reply that isn't the requested JSON."""
    CHECK = "failed_check"
    """A whole reply that fails a check of its template."""
    BUDGET = "budget"
    """A cap of promptkit leaves too little: never retried, never failed over."""
    UNPRICED = "unpriced"
    """No price for the target while a cap applies."""


class Part(Protocol):
    """A part of a whole, such as `promptkit._util.shares.Share`."""

    def of(self, amount: int) -> int:
        """Return this part of an amount."""
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of an attempt, normalised over the providers.

    `input_tokens` includes cache reads and all cache writes; `cache_write_tokens` includes
    `cache_write_1h_tokens`; `output_tokens` includes `reasoning_tokens`.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def part(self, part: Part) -> Usage:
        """Return a part of each count."""
        return Usage(
            part.of(self.input_tokens),
            part.of(self.output_tokens),
            part.of(self.cache_read_tokens),
            part.of(self.cache_write_tokens),
            part.of(self.cache_write_1h_tokens),
            part.of(self.reasoning_tokens),
        )


class Finish(StrEnum):
    """The way a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    """It reached the output limit or the context window: priced and kept, as `truncated`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply that arrived. `served_model` and `tier` are the provider's names for what served it.

    `shown`: the caller has read its text as it arrived, so no other reply can replace it.
    """

    text: str
    finish: Finish
    usage: Usage | None
    served_model: str | None = None
    tier: str | None = None
    request_id: str | None = None
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt without a usable reply. `retry_after_s` is this attempt's own hint.

    A failure may have been billed (a refusal, a reply cut on the wire): then `usage` is what for,
    or None if the provider did not report it. `text` is the part that arrived.
    """

    fault: Fault
    detail: str
    retry_after_s: float | None = None
    status: int | None = None
    usage: Usage | None = None
    served_model: str | None = None
    tier: str | None = None
    request_id: str | None = None
    text: str = ""
    billed: bool = False
    """Whether the provider charged for it, or may have: the reply was refused, cut or unreadable."""
    shown: bool = False
    """Whether the caller has read the beginning of its text, so that no other reply can replace it."""


Outcome: TypeAlias = Completion | Failure
