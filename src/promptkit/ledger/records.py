"""What goes into the ledger: frozen values, no SQL. What comes out is in `answers`.

Ids come from the caller (`promptkit.ids`), times are microseconds since the epoch (`_us`),
money is pico-USD (`_pico`). What is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from promptkit.batch.shares import Share
from promptkit.types import AttemptState, Cost, Estimate, Fault, Finish, Json, Status, Target, Usage

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

    `ceiling_pico` is what it can cost at most; None, where the target has no price and the
    user allows that, holds nothing.
    """

    id: int
    call_id: int
    hop: int
    number: int
    target: Target
    ceiling_pico: int | None
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
    held_pico: int
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
