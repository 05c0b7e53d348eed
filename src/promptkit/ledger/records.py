"""What goes into the ledger: frozen values, no SQL. What comes out is in `answers`.

Ids come from the caller (`promptkit.types.ids`), times are microseconds since the epoch (`_us`),
money is pico-USD (`_pico`). What is not known is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Final, TypeAlias

from promptkit._util.shares import Share
from promptkit.types import AttemptState, Cost, Estimate, Fault, Finish, Json, Status, Target, Usage, usd


# ---------------------------------------------------------------------- calls, going in
@dataclass(frozen=True, slots=True)
class CallStart:
    """A call as it begins.

    `template_digest` names a source that `Ledger.remember_template` was told of. `variables`
    is None where the storage settings keep them out. `cache_key` is what the reply cache will find
    it by; a call that another one's reply serves names that in `cached_from_id`, and in `saved_pico`
    what it would have cost. The call that carries a pack says how many items in `pack_items`; that of
    a row in it names the carrier in `pack_id`, and what `share` of the request it is held to cost.
    """

    id: int
    template_digest: str
    template_ref: str
    prompt_digest: str
    started_us: int
    variables: Mapping[str, object] | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    parent_id: int | None = None
    deliverable: str | None = None
    job_id: int | None = None
    row_id: int | None = None
    route: str | None = None
    cache_key: int | None = None
    cached_from_id: int | None = None
    saved_pico: int | None = None
    pack_id: int | None = None
    pack_items: int | None = None
    share: Share | None = None


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call as it ends. `text` is the reply to keep, None where the settings keep it out.

    `flags` are the checks that the reply doesn't keep to, and is kept with. `share` is the part that a
    row of a pack has in its cost, now that its reply is known.
    """

    id: int
    status: Status
    ended_us: int
    error: str | None = None
    text: str | None = None
    text_sha256: str | None = None
    finish: Finish | None = None
    flags: tuple[str, ...] = ()
    share: Share | None = None


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """An attempt about to be sent; hop and number count from 1.

    `max_cost_pico` is what it can cost at most; None, where the target has no price and the
    user allows that, holds nothing.
    """

    id: int
    call_id: int
    target_number: int
    number: int
    target: Target
    max_cost_pico: int | None
    started_us: int


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """An attempt and its settlement. `charged_pico` counts in the caps: cost, else the ceiling."""

    id: int
    state: AttemptState
    charged_pico: int
    ended_us: int
    fault: Fault | None = None
    detail: str = ""
    usage: Usage | None = None
    cost: Cost | None = None
    served_model: str | None = None
    tier: str | None = None
    request_id: str | None = None
    latency_us: int | None = None
    first_byte_us: int | None = None
    estimate: Estimate | None = None
    billed: bool = False
    http_status: int | None = None
    retry_after_us: int | None = None


@dataclass(frozen=True, slots=True)
class RowEnd:
    """A row of a job that is done, by the call that did it (None: no call was made)."""

    id: int
    state: Status
    ended_us: int
    call_id: int | None = None
    error: str | None = None


MemberEnd: TypeAlias = "tuple[CallEnd, RowEnd | None]"
"""How a row's own call in a pack ends, and the row with it, unless it is still to be done."""


# --------------------------------------------------------------------- calls, coming back
@dataclass(frozen=True, slots=True)
class Admitted:
    """The attempt is on disk and its ceiling is held: it may be sent."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A scope has no room; nothing was written.

    `may_free` is whether waiting can help: other holds are out, and without them it would fit.
    `releases` goes to `Ledger.freed`, so that no release between the two is missed.
    """

    scope_key: str
    cap_pico: int
    spent_pico: int
    reserved_pico: int
    may_free: bool
    stopped: bool = False
    """A provider billed above its ceiling in this scope: nothing more until the cap is raised."""
    releases: int = 0


@dataclass(frozen=True, slots=True)
class SoftPassed:
    """A scope that has spent what its soft cap names, or more."""

    scope_key: str
    soft_pico: int
    spent_pico: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The attempt is closed. `overrun` names the scopes that its bill above the ceiling stopped.

    `soft` are those of its scopes whose soft cap is reached. It is true where something stopped.
    """

    overrun: tuple[str, ...] = ()
    soft: tuple[SoftPassed, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.overrun)


# ------------------------------------------------------------------------------- jobs
class JobState(StrEnum):
    """Where a job stands. A job that was killed stays `open`: its lock tells whether it runs."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


class RowState(StrEnum):
    """Where a row stands: `pending`, `invalid` (it can't be rendered), or as its call ended."""

    PENDING = "pending"
    INVALID = "invalid"
    OK = "ok"
    TRUNCATED = "truncated"
    DEGRADED = "degraded"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobStart:
    """A job and what it pins at its first start. `columns` are the input's, in its order."""

    id: int
    name: str
    template_digest: str
    template_ref: str
    route: str
    created_us: int
    params: Mapping[str, Json] = field(default_factory=dict[str, Json])
    schema: Mapping[str, Json] | None = None
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])
    columns: tuple[str, ...] = ()
    key_column: str | None = None
    input_path: str | None = None
    output_path: str | None = None
    redo_of_id: int | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the ledger has it.

    `ingested_us` is None until an input was read to its end; `input_sha256` is that input's.
    """

    id: int
    name: str
    state: JobState
    template_digest: str
    template_ref: str
    route: str
    params: Mapping[str, Json]
    schema: Mapping[str, Json] | None
    options: Mapping[str, Json]
    columns: tuple[str, ...]
    key_column: str | None
    input_path: str | None
    input_sha256: str | None
    output_path: str | None
    ingest: int
    ingested_us: int | None
    redo_of_id: int | None
    note: str | None
    created_us: int
    ended_us: int | None


@dataclass(frozen=True, slots=True)
class RowStart:
    """A row of the input.

    `key` and `ordinal` (which of several rows with this key) identify it; `content` is a
    digest of what it holds: another content under the same key is a new generation. A row
    with an `error` is kept as invalid.
    """

    id: int
    key: str
    content: str
    position: int
    variables: Mapping[str, object] | None
    ordinal: int = 0
    passthrough: Mapping[str, object] | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    deliverable: str | None = None
    parent_call_id: int | None = None
    redo_of_id: int | None = None
    canary: bool = False
    line: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class InputRead:
    """An input that was read to its end: the columns that were met, and its digest where it has one."""

    columns: tuple[str, ...] | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a reading of the input brought: new rows, rows known, changed content, invalid ones."""

    new: int = 0
    known: int = 0
    changed: int = 0
    invalid: int = 0

    @property
    def rows(self) -> int:
        """How many rows the input held."""
        return self.new + self.known + self.changed

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(
            self.new + other.new,
            self.known + other.known,
            self.changed + other.changed,
            self.invalid + other.invalid,
        )


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
class RowProblem:
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
    target_number: int
    number: int
    target: Target
    state: AttemptState
    fault: Fault | None
    detail: str
    http_status: int | None
    retry_after_us: int | None
    usage: Usage | None
    cost: Cost | None
    max_cost_pico: int | None
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
    reserved_pico: int
    over_pico: int
    stopped: bool
    updated_us: int
    stopped_cap_pico: int | None = None

    def stops_at(self, cap_pico: int | None) -> bool:
        """Whether it would be stopped under that cap."""
        return (
            cap_pico is not None and self.stopped_cap_pico is not None and cap_pico <= self.stopped_cap_pico
        )


Key: TypeAlias = "tuple[str | int | None, ...]"
"""The values that a group stands for, in the order in which they were asked for; None: it has none."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over calls and their attempts; every field adds. Money in pico-USD.

    `answered` calls have a reply, `ended` ones have ended. `rows` are rows of jobs that were done
    by these calls. `known` is what attempts cost, `charged` that and the ceilings of the `unknown`
    ones; `lost_*` is what went to attempts that did not yield a reply that was kept, `named_*` what
    went to calls of a deliverable. Tokens are those that providers told; `cache_read_tokens` are
    part of `input_tokens`, `reasoning_tokens` of `output_tokens`. `cache_saved` is what the providers'
    prompt caches saved (below 0 where writing them cost more), `reply_saved` what replies saved that were
    used again.
    """

    calls: int = 0
    ended: int = 0
    answered: int = 0
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    attempts: int = 0
    unknown: int = 0
    known_pico: int = 0
    charged_pico: int = 0
    lost_attempts: int = 0
    lost_unknown: int = 0
    lost_known_pico: int = 0
    lost_charged_pico: int = 0
    named_known_pico: int = 0
    named_charged_pico: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_saved_pico: int = 0
    reply_saved_pico: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(_VALUES(self), _VALUES(other), strict=True)))

    @property
    def money(self) -> Money:
        """What all attempts cost."""
        return Money(self.known_pico, self.charged_pico, self.unknown, self.attempts)

    @property
    def lost(self) -> Money:
        """What of it was lost to retries."""
        return Money(self.lost_known_pico, self.lost_charged_pico, self.lost_unknown, self.lost_attempts)


FIELDS: Final = tuple(one.name for one in fields(Tally))


_VALUES: Final = attrgetter(*FIELDS)


@dataclass(frozen=True, slots=True)
class SumOf:
    """What to sum up.

    Args:
        by: `template`, `target`, `job`, `day`, `deliverable`; any other name is a tag.
        since_us: calls and attempts that started then or later.
        until_us: those that started before.
        slot_us: instead of a day, the number of the slot of this length, since the epoch.
        tags: only calls with these tags.
        template: only calls of this template, with or without its version.
        job: only calls of this job.
    """

    by: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    slot_us: int = 1
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    template: str | None = None
    job: str | None = None


_LOW: Final = 0.1


_HIGH: Final = 0.9
"""The lengths that `low` and `high` are: a tenth of the answers were shorter, a tenth longer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt with the same template, as the ledger has it; `output_tokens` None: no answer.

    `job` is the batch's, None of a single call; what was read from the provider's prompt cache and
    written to it is part of `input_tokens`.
    """

    call: int
    target: Target
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    charged_pico: int
    job: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cached:
    """The shares of a call's input tokens that a prompt cache serves (`read`) and takes in (`written`)."""

    read: float = 0.0
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """What a template's answers were like at a target.

    `low`, `mean` and `high` are output tokens; `of_estimate` counted input tokens to one that was
    estimated; `failed` attempts without an answer to one with; `lost` what those cost to what the
    answers cost; `cached` what the prompt cache did in batches, once their first call was answered.
    """

    answers: int
    low: int
    mean: float
    high: int
    latency_s: float | None = None
    failed: float = 0.0
    lost: float = 0.0
    of_estimate: float = 1.0
    cached: Cached | None = None


def past_of(seen: Sequence[Seen], of_estimate: float = 1.0) -> Past | None:
    """Sum attempts up; None where none of them was answered."""
    lengths = sorted(one.output_tokens for one in seen if one.output_tokens is not None)
    if not lengths:
        return None
    waits = [one.latency_s for one in seen if one.output_tokens is not None and one.latency_s is not None]
    paid = sum(one.charged_pico for one in seen if one.output_tokens is not None)
    lost = sum(one.charged_pico for one in seen if one.output_tokens is None)
    return Past(
        answers=len(lengths),
        low=_rank(lengths, _LOW),
        mean=sum(lengths) / len(lengths),
        high=_rank(lengths, _HIGH),
        latency_s=sum(waits) / len(waits) if waits else None,
        failed=(len(seen) - len(lengths)) / len(lengths),
        lost=lost / paid if paid else 0.0,
        of_estimate=of_estimate,
        cached=_cached(seen),
    )


def _cached(seen: Sequence[Seen]) -> Cached | None:
    """What the prompt cache did for the rows of batches; None where no batch had two.

    A batch's first call finds the cache cold, and single calls find it as it happens to be: how
    they fared says nothing of a row.
    """
    begun: set[int] = set()
    tokens = read = written = 0
    for one in sorted(seen, key=lambda one: one.call):
        if one.job is None or one.output_tokens is None:
            continue
        if one.job in begun:
            tokens += one.input_tokens or 0
            read += one.cache_read_tokens
            written += one.cache_write_tokens
        begun.add(one.job)
    return Cached(read / tokens, written / tokens) if tokens else None


def _rank(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
