"""One attempt on the wire: what is asked, what came back, and why it gave no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from .prompts import Json, Params, Prompt


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a model, whichever it will be."""

    prompt: Prompt
    params: Params
    schema: Mapping[str, Json] | None = None
    tier: str | None = None
    """Service tier (`flex`, `batch`); None is the provider's standard."""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class WireRequest:
    """An encoded call: a path below the provider's `base_url`, and the JSON body as bytes.

    `warnings` says what was left out because the model rejects it.
    """

    path: str
    body: bytes
    stream: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WireReply:
    """An answer that arrived whole: any status is a value. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """An exchange that broke. `sent` is whether the request may have reached the provider."""

    sent: bool
    detail: str


class Fault(StrEnum):
    """Why an attempt gave no answer: one row of the table in `routing.faults`."""

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
    """A whole reply that isn't the JSON that was asked for."""
    CHECK = "failed_check"
    """A whole reply that doesn't keep to the checks of its template."""
    BUDGET = "budget"
    """promptkit's own cap said no: never retried, never failed over."""
    UNPRICED = "unpriced"
    """No price for the target while a budget is in force."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt, normalised over the providers.

    `input_tokens` includes cache reads and all cache writes; `cache_write_tokens` includes
    `cache_write_1h_tokens`; `output_tokens` includes `reasoning_tokens`.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0


class Finish(StrEnum):
    """How a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    """It hit the output limit or the context window: priced and kept, as `truncated`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply that arrived. `served_model` and `tier` are what the provider says served it.

    `shown`: the caller has read its text as it came, so no other answer can take its place.
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
    """An attempt without an answer, as a value. `retry_after_s` is the hint of this very attempt.

    A failure may have been billed (a refusal, a reply cut on the wire): then `usage` says for
    what, or is None where the provider did not say. `text` is what had arrived.
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
    """The provider charged for it, or may have: the answer was refused, cut or unreadable."""
    shown: bool = False
    """The caller has read the beginning of its text: no other answer can take its place."""


Outcome: TypeAlias = Completion | Failure
