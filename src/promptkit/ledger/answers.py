"""What comes out of the ledger: frozen values, no SQL. Units as in `records`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from promptkit.batch.shares import Share
from promptkit.types import AttemptState, Cost, Estimate, Fault, Finish, Json, Status, Target, Usage, usd

from .records import JobRecord, RowState


@dataclass(frozen=True, slots=True)
class RowRecord:
    """A row as the ledger has it; `unknowns` counts attempts whose outcome was lost."""

    id: int
    job_id: int
    key: str
    ordinal: int
    generation: int
    position: int
    line: int | None
    state: RowState
    variables: Mapping[str, Json] | None
    passthrough: Mapping[str, Json] | None
    tags: Mapping[str, str]
    deliverable: str | None
    parent_call_id: int | None
    redo_of_id: int | None
    canary: bool
    unknowns: int
    call_id: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Money:
    """A sum over attempts: what is known, and what unknown ones may add at most.

    `charged_pico` is what caps count: the known plus the ceilings of the unknown.
    """

    known_pico: int = 0
    charged_pico: int = 0
    unknown: int = 0
    attempts: int = 0

    @property
    def at_most_unknown_pico(self) -> int:
        """What the attempts of unknown cost were charged: `$1.20 + up to $0.04 unknown`."""
        return self.charged_pico - self.known_pico

    @property
    def usd(self) -> Decimal:
        """The known part, in USD."""
        return usd(self.known_pico)

    def __add__(self, other: Money) -> Money:
        return Money(
            self.known_pico + other.known_pico,
            self.charged_pico + other.charged_pico,
            self.unknown + other.unknown,
            self.attempts + other.attempts,
        )


@dataclass(frozen=True, slots=True)
class OutputRow:
    """A row and what became of it, for the output file. Money covers all its calls.

    `target` is where its last attempt went; tokens are those of the call that did it.
    """

    row: RowRecord
    status: Status | None
    text: str | None
    error: str | None
    finish: Finish | None
    flags: tuple[str, ...]
    template_ref: str | None
    target: Target | None
    input_tokens: int | None
    output_tokens: int | None
    money: Money


# ------------------------------------------------------------------------------------ jobs


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job with the rows of its input by state, and its money over all calls and attempts."""

    job: JobRecord
    rows: Mapping[RowState, int]
    money: Money

    @property
    def total(self) -> int:
        """Rows of the input."""
        return sum(self.rows.values())

    @property
    def pending(self) -> int:
        """Rows still to be done."""
        return self.rows.get(RowState.PENDING, 0)

    @property
    def done(self) -> int:
        """Rows that have a text of their own, whole or cut."""
        return self.rows.get(RowState.OK, 0) + self.rows.get(RowState.TRUNCATED, 0)

    @property
    def failed(self) -> int:
        """Rows that somebody should look at: failed, refused, invalid, degraded."""
        return self.total - self.pending - self.done


@dataclass(frozen=True, slots=True)
class TargetShare:
    """What a target did for a job: how many requests it answered, and what all of them cost."""

    target: Target
    answered: int
    money: Money


@dataclass(frozen=True, slots=True)
class RowTrouble:
    """A row that failed, was refused, is invalid or degraded. `number` counts from 1 in the input."""

    number: int
    line: int | None
    key: str
    state: RowState
    call_id: int | None
    why: str | None


# ---------------------------------------------------------------------- log, show, budgets


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which calls to list; every field that is given must fit.

    `text` is looked for in variables, errors and replies; `template` is a name, with or
    without its version; `target` is `provider` or `provider/model`; `job` is a job's name; `verdict` is `accept`, `reject`
    or `none`.
    """

    text: str | None = None
    key: str | None = None
    template: str | None = None
    target: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    fault: Fault | None = None
    job: str | None = None
    since_us: int | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call in a list. `status` is None while it is open, or when its process died.

    `pack_items` and `pack_id` are as a `CallRecord`'s: money and tokens are its part of the pack's.
    """

    id: int
    started_us: int
    ended_us: int | None
    template_ref: str
    status: Status | None
    error: str | None
    target: Target | None
    faults: tuple[Fault, ...]
    flags: tuple[str, ...]
    input_tokens: int | None
    output_tokens: int | None
    money: Money
    tags: Mapping[str, str]
    job: str | None
    key: str | None
    verdict: str | None = None
    cached_from_id: int | None = None
    saved_pico: int | None = None
    pack_id: int | None = None
    pack_items: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt as the ledger has it; `cost` is None while unknown, `ended_us` while open.

    `estimate` stands in for `usage` and `cost` of a stream that ended before they were told.
    """

    id: int
    call_id: int
    hop: int
    number: int
    target: Target
    state: AttemptState
    fault: Fault | None
    detail: str
    http_status: int | None
    retry_after_us: int | None
    usage: Usage | None
    cost: Cost | None
    ceiling_pico: int | None
    charged_pico: int
    billed: bool
    served_model: str | None
    tier: str | None
    request_id: str | None
    started_us: int
    ended_us: int | None
    latency_us: int | None
    first_byte_us: int | None
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call in full. The prompt is rendered again from `template_digest` and `variables`.

    `pack_items` is how many rows it carried in one request; `pack_id` names the call that carried it,
    `share` its part in that: attempts and money are that part of the carrier's.

    `cached_from_id` names the call whose reply served it, if one did: then it has no attempts,
    `saved_pico` is what that saved.
    """

    id: int
    template_digest: str
    template_ref: str
    prompt_digest: str
    variables: Mapping[str, Json] | None
    tags: Mapping[str, str]
    parent_id: int | None
    deliverable: str | None
    job: str | None
    row_id: int | None
    key: str | None
    route: str | None
    status: Status | None
    error: str | None
    finish: Finish | None
    text: str | None
    text_sha256: str | None
    flags: tuple[str, ...]
    verdict: str | None
    verdict_us: int | None
    verdict_note: str | None
    forgotten_us: int | None
    started_us: int
    ended_us: int | None
    attempts: tuple[AttemptRecord, ...]
    money: Money
    cached_from_id: int | None = None
    saved_pico: int | None = None
    pack_id: int | None = None
    pack_items: int | None = None
    share: Share | None = None


@dataclass(frozen=True, slots=True)
class PackItem:
    """A row's own call in a pack. `status` is None while the pack is open, or when its process died."""

    id: int
    row_id: int
    key: str
    variables: Mapping[str, Json] | None
    status: Status | None
    error: str | None
    share: Share


@dataclass(frozen=True, slots=True)
class ChildCall:
    """A call that goes back to another one."""

    id: int
    template_ref: str
    status: Status | None


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """A scope's money. `cap_pico` None: it is only counted.

    `stopped`: a provider billed above its ceiling under this cap; `stopped_cap_pico` is the cap up
    to which that stops it.
    """

    scope: str
    cap_pico: int | None
    spent_pico: int
    held_pico: int
    over_pico: int
    stopped: bool
    updated_us: int
    stopped_cap_pico: int | None = None

    def stops_at(self, cap_pico: int | None) -> bool:
        """Whether it would be stopped under that cap."""
        return (
            cap_pico is not None and self.stopped_cap_pico is not None and cap_pico <= self.stopped_cap_pico
        )
