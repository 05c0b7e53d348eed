"""The records that go into the ledger and come out of it: frozen values, no SQL.

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
from typing import TypeAlias

from promptkit._util.shares import Share
from promptkit.types import AttemptState, Cost, Estimate, Fault, Finish, Json, Status, Target, Usage, usd


# ---------------------------------------------------------------------- calls, going in
@dataclass(frozen=True, slots=True)
class CallStart:
    """A call as it begins.

    `template_digest` names a source that `Calls.store_templates` stored. `variables` is None if the
    storage settings exclude them. `cache_key` is the key under which the reply cache finds its reply.
    A cache hit names the call with the reply in `cached_from_id`, and the cost that it saved in
    `saved_pico`. The call that carries a pack has the number of its items in `pack_items`; the call of
    a row in it names the carrier in `pack_id`, and in `share` its estimated part of the request.
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
    """A call as it ends. `text` is the reply to keep; None if the storage settings exclude it.

    `flags` are the failed checks that the reply is kept with. `share` is the part of a pack's cost
    that its row has, now that its reply is known.
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
    """An attempt about to be sent; `target_number` and `number` count from 1.

    `max_cost_pico` None reserves nothing: the target has no price, and the user allows that.
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
    """An attempt and its settlement. `charged_pico` counts in the caps: the cost, or the max cost if that is unknown."""

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
    """A row of a job that has a result, and the call with that result (None if there was no call)."""

    id: int
    state: Status
    ended_us: int
    call_id: int | None = None
    error: str | None = None


MemberEnd: TypeAlias = "tuple[CallEnd, RowEnd | None]"
"""The end of a row's call in a pack, and of the row, unless it is still pending."""


# --------------------------------------------------------------------- calls, coming back
@dataclass(frozen=True, slots=True)
class Admitted:
    """The attempt is on disk and its max cost is reserved: it may be sent."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A scope has no room; nothing was written.

    `may_free` is whether waiting can help: it would fit without the reservations of other attempts.
    `releases` goes to `Calls.wait_for_release`, which then misses no release between the two.
    """

    scope_key: str
    cap_pico: int
    spent_pico: int
    reserved_pico: int
    may_free: bool
    stopped: bool = False
    """A provider billed above the max cost in this scope: nothing is admitted until the cap is raised."""
    releases: int = 0


@dataclass(frozen=True, slots=True)
class SoftPassed:
    """A scope that has spent its soft cap, or more."""

    scope_key: str
    soft_pico: int
    spent_pico: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The attempt is closed. `overrun` names the scopes that its bill above the max cost stopped.

    `soft` are the scopes whose soft cap is reached. The value is true if a scope stopped.
    """

    overrun: tuple[str, ...] = ()
    soft: tuple[SoftPassed, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.overrun)


# ------------------------------------------------------------------------------- jobs
class JobState(StrEnum):
    """The state of a job. A job that was killed stays `open`: its lock shows whether it runs."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


class RowState(StrEnum):
    """The state of a row: `pending`, `invalid` (it can't be rendered), or the status of its call."""

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
    digest of its cells: another content under the same key is a new generation. A row
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
    """An input that was read to its end: its columns, and its digest if it has one."""

    columns: tuple[str, ...] | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """The rows of a reading of the input: new, known, with changed content, and invalid."""

    new: int = 0
    known: int = 0
    changed: int = 0
    invalid: int = 0

    @property
    def rows(self) -> int:
        """Rows of the input."""
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
    """A row as the ledger has it; `unknowns` counts attempts with an unknown outcome."""

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
    """A sum over attempts: the known cost, and the most that attempts of unknown cost may add.

    `charged_pico` is what caps count: the known cost plus the max cost of the unknown ones.
    """

    known_pico: int = 0
    charged_pico: int = 0
    unknown: int = 0
    attempts: int = 0

    @property
    def at_most_unknown_pico(self) -> int:
        """The charge of the attempts with unknown cost: `$1.20 + up to $0.04 unknown`."""
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
    """A row and its result, for the output file. Money covers all its calls.

    `target` is the target of its last attempt; tokens are those of the call with the result.
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
        """Rows without a result."""
        return self.rows.get(RowState.PENDING, 0)

    @property
    def done(self) -> int:
        """Rows that have a reply, whole or truncated."""
        return self.rows.get(RowState.OK, 0) + self.rows.get(RowState.TRUNCATED, 0)

    @property
    def failed(self) -> int:
        """Rows that a person should look at: failed, refused, invalid, degraded."""
        return self.total - self.pending - self.done


@dataclass(frozen=True, slots=True)
class TargetShare:
    """A target's part of a job: how many requests it answered, and the cost of all of them."""

    target: Target
    replied: int
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
    """The calls to list; a call must fit every field that is given.

    `text` is searched in variables, errors and replies; `template` is a name, with or without its
    version; `target` is `provider` or `provider/model`; `job` is a job's name; `verdict` is `accept`,
    `reject` or `none`.
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
    """A call in a list. `status` is None while it is open, or if its process died.

    `pack_items` and `pack_id` are as in `CallRecord`: money and tokens are its share of the pack's.
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
    """An attempt as the ledger has it; `cost` is None if unknown, `ended_us` while it is open.

    `estimate` replaces `usage` and `cost` of a stream that ended before the provider sent them.
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

    `pack_items` is the number of rows that it carried in one request; `pack_id` names the call that
    carried it, `share` its part of that: attempts and money are that part of the carrier's.

    A cache hit has no attempts: `cached_from_id` names the call with the reply, `saved_pico` is the
    cost that it saved.
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
    """A row's call in a pack. `status` is None while the pack is open, or if its process died."""

    id: int
    row_id: int
    key: str
    variables: Mapping[str, Json] | None
    status: Status | None
    error: str | None
    share: Share


@dataclass(frozen=True, slots=True)
class ChildCall:
    """A call that names another one as its parent."""

    id: int
    template_ref: str
    status: Status | None


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """A scope's money. `cap_pico` None: it is only counted.

    `stopped`: a provider billed above the max cost under this cap; `stopped_cap_pico` is the cap up
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
        """Return whether it would be stopped under that cap."""
        return (
            cap_pico is not None and self.stopped_cap_pico is not None and cap_pico <= self.stopped_cap_pico
        )


Key: TypeAlias = "tuple[str | int | None, ...]"
"""The values of a group, in the order of `SumOf.by`; None if its calls have none."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over calls and their attempts; every field adds. Money in pico-USD.

    `replied` calls have a reply, `ended` calls have ended. `rows` are rows of jobs whose result is
    one of these calls. `known` is the known cost of attempts, `charged` adds the max cost of the
    `unknown` ones. `lost_*` is the part of attempts whose reply was not kept, `named_*` the part of
    calls with a deliverable. Tokens are those that providers report; `cache_read_tokens` are part of
    `input_tokens`, `reasoning_tokens` of `output_tokens`. `cache_saved` is the saving of the
    providers' prompt caches (below 0 if writing them cost more), `reply_saved` that of our reply cache.
    """

    calls: int = 0
    ended: int = 0
    replied: int = 0
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
        """The cost of all attempts."""
        return Money(self.known_pico, self.charged_pico, self.unknown, self.attempts)

    @property
    def lost(self) -> Money:
        """The cost of attempts whose reply was not kept."""
        return Money(self.lost_known_pico, self.lost_charged_pico, self.lost_unknown, self.lost_attempts)


FIELDS = tuple(entry.name for entry in fields(Tally))


_VALUES = attrgetter(*FIELDS)


@dataclass(frozen=True, slots=True)
class SumOf:
    """The sums to compute.

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


_LOW = 0.1


_HIGH = 0.9
"""The ranks of `low` and `high`: a tenth of the replies are shorter, a tenth longer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An earlier attempt with the same template; `output_tokens` is None if it got no reply.

    `job` is None for a single call. Tokens read from and written to the provider's prompt cache are
    part of `input_tokens`.
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
    """The shares of a call's input tokens that are read from a prompt cache, and written to it."""

    read: float = 0.0
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """Statistics of a template's replies at a target.

    `low`, `mean` and `high` are output tokens; `of_estimate` is the ratio of counted to estimated
    input tokens; `failed` that of attempts without a reply to attempts with one; `lost` that of their
    costs; `cached` is the effect of the prompt cache in jobs, after their first reply.
    """

    replies: int
    low: int
    mean: float
    high: int
    latency_s: float | None = None
    failed: float = 0.0
    lost: float = 0.0
    of_estimate: float = 1.0
    cached: Cached | None = None


def past_of(seen: Sequence[Seen], of_estimate: float = 1.0) -> Past | None:
    """Return the statistics of attempts; None if none of them got a reply."""
    lengths = sorted(attempt.output_tokens for attempt in seen if attempt.output_tokens is not None)
    if not lengths:
        return None
    latencies = [
        attempt.latency_s
        for attempt in seen
        if attempt.output_tokens is not None and attempt.latency_s is not None
    ]
    paid = sum(attempt.charged_pico for attempt in seen if attempt.output_tokens is not None)
    lost = sum(attempt.charged_pico for attempt in seen if attempt.output_tokens is None)
    return Past(
        replies=len(lengths),
        low=_rank(lengths, _LOW),
        mean=sum(lengths) / len(lengths),
        high=_rank(lengths, _HIGH),
        latency_s=sum(latencies) / len(latencies) if latencies else None,
        failed=(len(seen) - len(lengths)) / len(lengths),
        lost=lost / paid if paid else 0.0,
        of_estimate=of_estimate,
        cached=_cached(seen),
    )


def _cached(seen: Sequence[Seen]) -> Cached | None:
    """Return the effect of the prompt cache on rows of jobs; None if no job had two replies.

    The first call of a job finds the cache cold, and single calls find it in any state: they
    predict nothing for a row.
    """
    begun: set[int] = set()
    tokens = read = written = 0
    for attempt in sorted(seen, key=lambda attempt: attempt.call):
        if attempt.job is None or attempt.output_tokens is None:
            continue
        if attempt.job in begun:
            tokens += attempt.input_tokens or 0
            read += attempt.cache_read_tokens
            written += attempt.cache_write_tokens
        begun.add(attempt.job)
    return Cached(read / tokens, written / tokens) if tokens else None


def _rank(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
