"""A run looks up now and then: is it still wanted, what time is it, will it be done in time."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol
from zoneinfo import ZoneInfo

from promptkit.engine.context import Session
from promptkit.errors import PromptKitError, StoppedEarly, UsageError, counted
from promptkit.ledger.records import JobState, RowState
from promptkit.types import OnMiss, Route

from .options import JobOptions

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import JobRecord
    from promptkit.routing.flow import Plan


_LOOK_S: Final = 0.5


class Run(Protocol):
    """What is steered."""

    def end_with(self, why: PromptKitError) -> None:
        """Send nothing more, and say why."""
        ...

    def grow(self, size: int) -> None:
        """Have so many rows under way at once."""
        ...


class Steering:
    """Watches a run and changes its course.

    Args:
        session: clock and voice.
        ledger: where another process may cancel the job.
        job: which.
        options: the deadline, and what to do where it won't be met.
        to_do: how many rows this run is to make.
        run: what is steered.
    """

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        job: JobRecord,
        options: JobOptions,
        to_do: int,
        run: Run,
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._job = job
        self._options = options
        self._run = run
        self.fastest = False
        """Whether the target that answers fastest goes first from now on."""
        now_s, size = session.now(), options.concurrency
        self._course = Course(now_s, options.deadline_s or math.inf, now_s, 0, to_do, size, size)

    def made(self) -> None:
        """A row has been made."""
        self._course = replace(self._course, made=self._course.made + 1, left=self._course.left - 1)

    async def watch(self) -> None:
        """Look up every half second, until the run is stopped."""
        while True:
            if self._look():
                return
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> bool:
        """Look up once; returns whether the run is stopped."""
        if self._ledger.jobs.state(self._job.id) is JobState.CANCELLED:
            self._run.end_with(cancelled(self._job.name))
            return True
        if self._options.deadline_s is None:
            return False
        self._course = replace(self._course, now_s=self._session.now())
        return self._act(decide(self._course, self._options.on_miss))

    def _act(self, move: Move) -> bool:
        course = self._course
        if move is Move.RAISE:
            more = course.concurrency * 2
            self._warn(f"{more} rows at once from now on")
            self._run.grow(more)
            self._measure_anew(concurrency=more)
        elif move is Move.FASTEST:
            self._warn("the target that answers fastest goes first from now on")
            self.fastest = True
            self._measure_anew(fastest=True)
        elif move is Move.WARN:
            self._warn("at the deadline nothing more is sent")
            self._course = replace(course, warned=True)
        elif move in (Move.STOP, Move.OVER):
            self._run.end_with(self._missed(over=move is Move.OVER))
            return True
        return False

    def _measure_anew(self, **changed: int) -> None:
        self._course = replace(self._course, since_s=self._course.now_s, made=0, **changed)

    def _warn(self, what: str) -> None:
        self._session.say(f"{self._late()}; {what}")

    def _late(self) -> str:
        course, at = self._course, self._time(self._course.deadline_s)
        ends_s = course.ends_s
        when = "no row gets done" if ends_s is None or math.isinf(ends_s) else f"done at {self._time(ends_s)}"
        return f"deadline {at}: at this pace {when}, {counted(course.will_miss, 'row waits', 'rows wait')} by then"

    def _missed(self, *, over: bool) -> StoppedEarly:
        what = f"the deadline {self._time(self._course.deadline_s)} has come" if over else self._late()
        return StoppedEarly(
            f"{what}; nothing more is sent",
            remedy=f"`promptkit jobs resume {self._job.name}` goes on with the rest.",
        )

    def _time(self, at_s: float) -> str:
        zone = self._session.settings.timezone
        at, today = datetime.fromtimestamp(at_s, zone), datetime.fromtimestamp(self._session.now(), zone)
        return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M}"


def cancelled(name: str) -> StoppedEarly:
    """Why a job that was cancelled sends nothing."""
    return StoppedEarly(
        f"job {name} was cancelled", remedy=f"`promptkit jobs resume {name}` goes on with it."
    )


_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}")


MOST_AT_ONCE: Final = 8
"""`faster` raises concurrency up to so many times what the user said."""


_ROWS: Final = 20


_SHARE: Final = 0.1


_AT_MOST_S: Final = 60.0
"""A pace counts once so many rows were made, or a tenth of the time has gone, or a minute."""


class Move(StrEnum):
    """What to do now."""

    KEEP = "keep"
    WARN = "warn"
    RAISE = "raise"
    """Twice as many rows at once."""
    FASTEST = "fastest"
    """The target that answers fastest goes first."""
    STOP = "stop"
    """Send nothing more: it won't be met."""
    OVER = "over"
    """Send nothing more: it has come."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a job gets on. Times are seconds since the epoch.

    `made` rows since `since_s`, when it began or last changed its pace; `left` are still to be
    made. `concurrency` now and `began_with` at first; `warned` and `fastest` were done before.
    """

    now_s: float
    deadline_s: float
    since_s: float
    made: int
    left: int
    concurrency: int = 1
    began_with: int = 1
    warned: bool = False
    fastest: bool = False

    @property
    def ends_s(self) -> float | None:
        """When the last row will be made at this pace; infinity where none is; None: too early to say."""
        gone_s = self.now_s - self.since_s
        settled_s = min(_AT_MOST_S, (self.deadline_s - self.since_s) * _SHARE)
        if self.made < _ROWS and gone_s < settled_s:
            return None
        if not self.made or gone_s <= 0:
            return math.inf if self.left else self.now_s
        return self.now_s + self.left * gone_s / self.made

    @property
    def will_miss(self) -> int:
        """How many rows will not be made in time at this pace."""
        gone_s = self.now_s - self.since_s
        rate = self.made / gone_s if gone_s > 0 else 0.0
        return max(0, self.left - math.floor(rate * max(0.0, self.deadline_s - self.now_s)))


def decide(course: Course, on_miss: OnMiss) -> Move:
    """What to do now."""
    if course.now_s >= course.deadline_s:
        return Move.OVER
    ends_s = course.ends_s
    if not course.left or ends_s is None or ends_s <= course.deadline_s:
        return Move.KEEP
    if on_miss is OnMiss.STOP:
        return Move.STOP
    if on_miss is OnMiss.FASTER and course.concurrency < course.began_with * MOST_AT_ONCE:
        return Move.RAISE
    if on_miss is OnMiss.FASTEST and not course.fastest:
        return Move.FASTEST
    return Move.KEEP if course.warned else Move.WARN


def read_deadline(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """The moment that `--deadline` means: the next `06:30` on the wall clock, or a date and time.

    A time that the clock skips in spring is the moment that it would have been; one that it shows
    twice in autumn is the next of the two.

    Args:
        text: `06:30`, `2026-11-23T06:30`, with an offset where another zone's clock is meant.
        now: an aware time.
        zone: whose clock is meant.

    Raises:
        UsageError: it is neither, or over.
    """
    remedy = "For example 06:30 or 2026-11-23T06:30"
    try:
        if _CLOCK.fullmatch(text):
            at = time.fromisoformat(text.zfill(len("06:30")))
            today = now.astimezone(zone).date()
            days = (today + timedelta(days=ahead) for ahead in range(-1, 3))
            moments = (
                _moment(datetime.combine(day, at, zone).replace(fold=fold)) for day in days for fold in (0, 1)
            )
            return min(moment for moment in moments if moment > now)
        said = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"--deadline {text!r} is no time", remedy=remedy) from None
    moment = _moment(said if said.tzinfo is not None else said.replace(tzinfo=zone))
    if moment <= now:
        raise UsageError(f"--deadline {text} is over", remedy=remedy)
    return moment


def _moment(local: datetime) -> datetime:
    """A local time as a moment; one that the clock skips is read as if it hadn't been put forward."""
    moment = local.astimezone(UTC)
    if moment.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        return local.replace(fold=0).astimezone(UTC)
    return moment


_LONGEST_S: Final = 60.0
"""The pauses of an outage double up to this: so late may its end be noticed."""


class Turn(StrEnum):
    """What is next for a row that nobody answered."""

    AGAIN = "again"
    """It waits, and comes again in this run."""
    FAILS = "fails"
    STOPS = "stops"
    """The run: the row waits for its next start."""


@dataclass(slots=True)
class Outages:
    """The outages of one run. Times are seconds since the epoch.

    `max_wait_s` is how long the run goes on with no answer from anywhere; `answered_s` is when
    the last one came, at first when the run began.
    """

    max_wait_s: float
    answered_s: float
    resumes_s: float = 0.0
    """Until then no row is begun."""
    waiting: int = 0
    """Rows that come again in this run."""
    _streak: int = 0
    _left_s: dict[int, float] = field(default_factory=dict[int, float])

    def answered(self, now_s: float) -> None:
        """A row was answered."""
        self.answered_s, self._streak = now_s, 0

    def left(self, row_id: int, began_s: float, now_s: float, retry_at_s: float | None) -> Turn:
        """A row was left without an answer.

        Args:
            row_id: which.
            began_s: when its call began.
            now_s: when it gave up.
            retry_at_s: when the first target opens again, where that is known.
        """
        left_s = self._left_s.setdefault(row_id, now_s)
        if left_s < self.answered_s:
            return Turn.FAILS
        if self.answered_s <= began_s:
            opens_s = max(now_s, retry_at_s or 0.0)
            if opens_s >= self.answered_s + self.max_wait_s:
                return Turn.STOPS
            self._streak += 1
            pause_s = min(2.0**self._streak, _LONGEST_S)
            self.resumes_s = max(self.resumes_s, opens_s, now_s + pause_s)
        self.waiting += 1
        return Turn.AGAIN

    def begin_turn(self) -> None:
        """The rows that wait come now."""
        self.waiting = 0


def waiting_text(outages: Outages, zone: tzinfo, why: str) -> str:
    """What the run waits for, and how long it will."""
    since = datetime.fromtimestamp(outages.answered_s, zone)
    return (
        f"no answer from any target since {since:%H:%M:%S}: the batch waits for one up to "
        f"{outages.max_wait_s / 60:g} minutes (outage_s), then stops; the first reason: {why}"
    )


DEFAULT_FAIL_RATE: Final = 0.2


_WELL: Final = (RowState.OK, RowState.TRUNCATED, RowState.DEGRADED)
"""States that say nothing against the version: a last resort answers for an outage."""


class Verdict(StrEnum):
    """What the canary says."""

    WAITING = "waiting"
    PASSED = "passed"
    FAILED = "failed"


def judge(rows: Mapping[RowState, int], max_fail_rate: float) -> Verdict:
    """What canary rows say, as soon as they can't say anything else.

    Args:
        rows: the canary rows by state; pending ones have said nothing yet.
        max_fail_rate: up to this share of all of them may fail (0 to 1).
    """
    total, pending = sum(rows.values()), rows.get(RowState.PENDING, 0)
    failed = failures(rows)
    allowed = Fraction(str(max_fail_rate)) * total
    if failed > allowed:
        return Verdict.FAILED
    return Verdict.WAITING if pending and failed + pending > allowed else Verdict.PASSED


def failures(rows: Mapping[RowState, int]) -> int:
    """How many of them failed, were refused, or didn't stand their check."""
    return sum(count for state, count in rows.items() if state not in (*_WELL, RowState.PENDING))


def failed_early(job: str, rows: Mapping[RowState, int], limit: float) -> StoppedEarly:
    """What a run ends with whose canary failed."""
    return StoppedEarly(
        f"the canary failed: {failures(rows):,} of {counted(sum(rows.values()), 'row')}, and {limit:.0%} may; "
        "the other rows were not sent",
        remedy=f"`promptkit jobs show {job}` tells why. Mend the template and run it as another --job; or go on all "
        "the same: --retry-failed tries the canary again, --canary 0 does without it.",
    )


def way_of(  # noqa: PLR0913 - what a row's way depends on
    session: Session,
    template: str,
    route: Route,
    detours: Mapping[str, Route] | None,
    tags: Mapping[str, str],
    *,
    resend_unknown: bool = True,
    fastest: bool = False,
) -> tuple[Route, Plan]:
    """The route and the plan of the rows with these tags.

    Args:
        session: settings and rules.
        template: the template's name.
        route: the job's.
        detours: the routes that rules may send rows over, as the job pinned them; None for none.
        tags: the rows'.
        resend_unknown: whether an unknown outcome may be sent again.
        fastest: the target that answers fastest goes first, whatever the route says.

    Raises:
        NoUsableKey: no target can be asked.
        UsageError: the rules leave no target.
    """
    settings = session.settings
    if detours is not None and settings.rules:
        name = settings.rules.ruling(template, tags).route
        route = detours.get(name or "") or settings.routes.get(name or "") or route
    if fastest:
        route = replace(route, strategy="fastest", weights=())
    return route, session.plan(route, template=template, tags=tags, resend_unknown=resend_unknown)
