"""Results of calls, their attempts and the rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Generic

from .calls import Fault, Part, Usage
from .money import Cost, Estimate, usd
from .prompts import Json, Parsed_co, TemplateRef, Value
from .providers import Target


class AttemptState(StrEnum):
    """The outcome of an attempt."""

    OPEN = "open"
    OK = "ok"
    TRUNCATED = "truncated"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Sent, without a reply: charged at its max cost."""


class Status(StrEnum):
    """The outcome of a call or a row."""

    OK = "ok"
    TRUNCATED = "truncated"
    DEGRADED = "degraded"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one target. `charged_pico` is what the caps count: the cost, else the max cost.

    `first_byte_s` is the time to the first word of a streamed reply. A stream that ended before its
    usage was reported has an `estimate`; `usage` and `cost` are None then.
    """

    id: int
    target: Target
    state: AttemptState
    fault: Fault | None
    detail: str
    usage: Usage | None
    cost: Cost | None
    charged_pico: int
    latency_s: float
    first_byte_s: float | None = None
    request_id: str | None = None
    served_model: str | None = None
    estimate: Estimate | None = None

    def part(self, part: Part) -> Attempt:
        """Return a part of the attempt: of its tokens, its cost and its charge."""
        return replace(
            self,
            usage=None if self.usage is None else self.usage.part(part),
            cost=None if self.cost is None else self.cost.part(part),
            charged_pico=part.of(self.charged_pico),
        )


@dataclass(frozen=True, slots=True)
class Reply(Generic[Parsed_co]):
    """A finished call.

    `cost_pico` is the sum over all attempts and None if one is unknown; `charged_pico` is what the
    caps counted: at least the cost, with unknown costs at their max cost.
    """

    id: str
    """The id of the call, as `promptkit show` takes it."""
    text: str
    status: Status
    target: Target
    served_model: str | None
    ref: TemplateRef
    template_digest: str
    prompt_digest: str
    usage: Usage | None
    cost_pico: int | None
    charged_pico: int
    latency_s: float
    attempts: tuple[Attempt, ...]
    tags: Mapping[str, str]
    parsed: Parsed_co | None = None
    """The value of a structured reply; None for plain text, and if it was cut off."""
    flags: tuple[str, ...] = ()
    """The failed checks of its template, if they keep a reply that fails them."""
    cached_from: str | None = None
    """The call whose reply was reused from the reply cache: nothing was sent, and it cost nothing."""
    saved_pico: int | None = None
    """The cost of that call's reply; None if it is unknown, or no reply was reused."""

    @property
    def cost(self) -> Decimal | None:
        """The cost of the call in USD, exactly; None if an attempt's cost is unknown."""
        return None if self.cost_pico is None else usd(self.cost_pico)

    @property
    def charged(self) -> Decimal:
        """The amount that the caps counted, in USD."""
        return usd(self.charged_pico)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a batch, with its key and its variables.

    `number` counts the file's rows from 1, `line` is the physical line where the row starts.
    `cells` are the input's columns as read; `variables` are what the template gets, converted,
    before defaults. `key` identifies the row within its job (the `--key` column's value, else a
    digest); `content` is the digest of `variables`: the same key with other content is a new
    generation.
    """

    number: int
    line: int
    key: str
    content: str
    variables: Mapping[str, Value]
    cells: Mapping[str, Json] = field(default_factory=dict[str, Json])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class OnMiss(StrEnum):
    """What a job does if it will miss its deadline; `faster` sends more rows at once."""

    WARN = "warn"
    STOP = "stop"
    FASTER = "faster"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class RowResult(Generic[Parsed_co]):
    """The result of a row. `call` is None if there was none; `cost` is None if unknown.

    `cells` are the input's columns, for the output. `error` is why there is no (whole) text;
    `parsed` is the value of a structured reply, `flags` are as a `Reply`'s.
    """

    number: int
    status: Status
    text: str | None = None
    parsed: Parsed_co | None = None
    error: str | None = None
    cost: Cost | None = None
    usage: Usage | None = None
    target: Target | None = None
    template: TemplateRef | None = None
    call: int | None = None
    cells: Mapping[str, Json] = field(default_factory=dict[str, Json])
    cached_from: int | None = None
    """The call whose reply was reused from the reply cache."""
    flags: tuple[str, ...] = ()
