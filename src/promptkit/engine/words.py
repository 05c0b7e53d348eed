"""What the engine is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from promptkit.routing.flow import Answered, Plan
from promptkit.types import Attempt, Call, Failure, Scope, Status, Value

from .judging import Judge


@dataclass(frozen=True, slots=True)
class Edge:
    """What comes in from the world: seconds since the epoch, a draw in [0, 1), and a voice.

    `by_hand` is whether somebody asks to see how a target is, however it was found before.
    """

    clock: Callable[[], float]
    draw: Callable[[], float]
    say: Callable[[str], None]
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One call to make: what to ask, where it may go, and what the books say of it.

    `scopes` are the hard caps it counts against; `variables` are as supplied and coerced. `judge`
    says what its reply must be, None where any will do.
    `listen`, of a call that streams, is told each piece of the text as it comes; it must not raise.
    """

    id: int
    call: Call
    plan: Plan
    route: str
    scopes: tuple[Scope, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, Value] = field(default_factory=dict[str, Value])
    parent_id: int | None = None
    deliverable: str | None = None
    job_id: int | None = None
    row_id: int | None = None
    judge: Judge | None = None
    cache_s: float | None = None
    """How old a reply may be that serves it, in seconds; 0: none does, but its own is kept; None: neither."""
    listen: Callable[[str], None] | None = None
    members: tuple[Work, ...] = ()
    """The calls of the rows that this one carries in one request (see `promptkit.batch.pack`)."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a call. `text` and `answered` are set where a reply came, `failure` where none did.

    Of a stream that broke off, `text` is what had come.

    `row_stays` is whether a row of this call is still to be done: it was not the row that failed.
    """

    id: int
    status: Status
    text: str
    answered: Answered | None
    failure: Failure | None
    why: str
    retry_at_s: float | None
    attempts: tuple[Attempt, ...]
    latency_s: float
    row_stays: bool = False
    outage: bool = False
    """No target answered, and that will pass."""
    refused_by: str | None = None
    """The scope whose cap refused it, where one did."""
    parsed: object = None
    flags: tuple[str, ...] = ()
    cached_from: int | None = None
    """The call whose reply served this one."""
    saved_pico: int | None = None
    members: tuple[Made, ...] = ()
    """Of a call that carried a pack: what came of the calls of its rows, to the part that each has in it."""
    ask_again: bool = False
    """The pack that it went in brought it no reply: its row is to be asked for with fewer others, or alone."""
