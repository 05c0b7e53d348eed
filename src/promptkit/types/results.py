"""What became of a call and its attempts, and of a row of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Generic

from .calls import Fault, Usage
from .money import Cost, Estimate, usd
from .prompts import Json, Parsed_co, TemplateRef, Value
from .providers import Target


class AttemptState(StrEnum):
    """What became of one attempt."""

    OPEN = "open"
    OK = "ok"
    TRUNCATED = "truncated"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Sent and never answered: charged at its ceiling."""


class Status(StrEnum):
    """What became of a call or a row."""

    OK = "ok"
    TRUNCATED = "truncated"
    DEGRADED = "degraded"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one target. `charged_pico` is what the caps count: cost, else the ceiling.

    `first_byte_s` is the time to the first word of a streamed reply. `estimate` stands where a
    stream ended before its usage was told; `usage` and `cost` are None then.
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


@dataclass(frozen=True, slots=True)
class Reply(Generic[Parsed_co]):
    """A finished call.

    `cost_pico` sums the cost of all attempts and is None where one is unknown; `charged_pico`
    is what the caps counted: at least the cost, with unknowns at their ceiling.
    """

    id: int
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
    """The value of a structured reply; None for plain text, and where it was cut off."""
    flags: tuple[str, ...] = ()
    """What it doesn't keep to of its template's checks, where those say that it is kept all the same."""
    cached_from: int | None = None
    """The call whose reply served this one from the reply cache: nothing was sent, and it cost nothing."""
    saved_pico: int | None = None
    """What that call's answer had cost; None where it is unknown, or nothing was cached."""

    @property
    def cost(self) -> Decimal | None:
        """What the call cost in USD, exactly; None where an attempt's cost is unknown."""
        return None if self.cost_pico is None else usd(self.cost_pico)

    @property
    def charged(self) -> Decimal:
        """What the caps counted, in USD."""
        return usd(self.charged_pico)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch, read, bound and named.

    `number` counts the file's rows from 1, `line` is the physical line where the row starts.
    `cells` are the input's columns as read; `variables` what the template gets of them, coerced,
    before defaults. `key` names the row within its job (the row key, or the `--key` column's
    value); `content` is the digest of `variables`: the same key with other content is a new
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
    """What a job does when its deadline won't be met; `faster` has more rows under way at once."""

    WARN = "warn"
    STOP = "stop"
    FASTER = "faster"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class RowResult(Generic[Parsed_co]):
    """What became of one row. `call` is None where none was made; `cost` None where unknown.

    `cells` are the input's columns, passed through to the output. `error` says why there is no
    (whole) text; `parsed` is the value of a structured reply, `flags` are as a `Reply`'s.
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
    """The call whose reply served it from the reply cache."""
    flags: tuple[str, ...] = ()
