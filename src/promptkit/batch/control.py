"""What ends or changes a run before its rows are done: a halt, a cancellation, the deadline, the canary, an outage."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from promptkit.engine.context import Session
from promptkit.errors import PromptKitError, StoppedEarly, UsageError, counted
from promptkit.ledger.records import JobState, RowState
from promptkit.types import OnMiss

from .options import JobOptions

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import JobRecord


@dataclass(slots=True)
class StopSignal:
    """Whether a run may send new rows, and the error that ended it, if any.

    The job, its runner, the packer and the monitor share it, so none of them needs to know the others.
    """

    halted: bool = False
    error: PromptKitError | None = None
    """The first reason why rows stay pending."""

    def halt(self) -> None:
        """Send no new rows; calls in flight finish."""
        self.halted = True

    def stop(self, error: PromptKitError) -> None:
        """Send no new rows because of an error."""
        self.note(error)
        self.halt()

    def note(self, error: PromptKitError) -> None:
        """Keep an error that leaves some rows pending while others continue."""
        self.error = self.error or error


class RunMonitor:
    """Stops a run that was cancelled or misses its deadline, or makes it faster.

    Args:
        session: the clock, and where notices go.
        ledger: where another process may cancel the job.
        job: the job.
        options: the deadline, and what to do if it can't be met.
        rows: how many rows this run sends.
        signal: stops the run.
    """

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        job: JobRecord,
        options: JobOptions,
        rows: int,
        signal: StopSignal,
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._job = job
        self._options = options
        self._signal = signal
        now_s, concurrency = session.now(), options.concurrency
        deadline_s = options.deadline_s or math.inf
        self._progress: Progress = Progress(now_s, deadline_s, now_s, 0, rows, concurrency, concurrency)

    @property
    def concurrency(self) -> int:
        """How many rows may be in flight."""
        return self._progress.concurrency

    @property
    def fastest(self) -> bool:
        """Whether the target with the lowest latency comes first."""
        return self._progress.fastest

    def row_ended(self) -> None:
        """Count a row that has its result."""
        self._progress = replace(
            self._progress, ended=self._progress.ended + 1, pending=self._progress.pending - 1
        )

    def check(self) -> bool:
        """Look at the ledger and the clock once; return whether the run is stopped."""
        if self._ledger.jobs.state(self._job.id) is JobState.CANCELLED:
            self._signal.stop(cancelled(self._job.name))
            return True
        if self._options.deadline_s is None:
            return False
        self._progress = replace(self._progress, now_s=self._session.now())
        return self._act(decide(self._progress, self._options.on_miss))

    def _act(self, action: Action) -> bool:
        progress = self._progress
        if action is Action.RAISE:
            concurrency = progress.concurrency * 2
            self._warn(f"concurrency is now {concurrency}")
            self._progress = _measured_anew(progress, concurrency=concurrency)
        elif action is Action.FASTEST:
            self._warn("the target with the lowest latency now comes first")
            self._progress = _measured_anew(progress, fastest=True)
        elif action is Action.WARN:
            self._warn("nothing more is sent after the deadline")
            self._progress = replace(progress, warned=True)
        elif action in (Action.STOP, Action.DEADLINE):
            if action is Action.DEADLINE:
                reason = f"the deadline {self._clock(progress.deadline_s)} has passed"
            else:
                reason = self._late()
            remedy = f"`promptkit jobs resume {self._job.name}` continues with the pending rows."
            self._signal.stop(StoppedEarly(f"{reason}; nothing more is sent", remedy=remedy))
            return True
        return False

    def _warn(self, measure: str) -> None:
        self._session.notice(f"{self._late()}; {measure}")

    def _late(self) -> str:
        progress, end_s = self._progress, self._progress.end_s
        when = (
            "no row ends" if end_s is None or math.isinf(end_s) else f"the job ends at {self._clock(end_s)}"
        )
        pending = counted(progress.pending_at_deadline, "row")
        return f"deadline {self._clock(progress.deadline_s)}: at this pace {when}, with {pending} pending at the deadline"

    def _clock(self, at_s: float) -> str:
        zone = self._session.settings.timezone
        at, today = datetime.fromtimestamp(at_s, zone), datetime.fromtimestamp(self._session.now(), zone)
        return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M}"


def cancelled(name: str) -> StoppedEarly:
    """Return the error of a job that was cancelled."""
    return StoppedEarly(f"job {name} was cancelled", remedy=f"`promptkit jobs resume {name}` continues it.")


MAX_SPEED_UP = 8
"""`faster` raises the concurrency up to this many times its first value."""

_MEASURED_ROWS = 20
_MEASURED_SHARE = 0.1
_MEASURED_S = 60.0
"""A pace counts after this many rows, this share of the time to the deadline, or this many seconds."""


class Action(StrEnum):
    """What to do about the deadline."""

    KEEP = "keep"
    WARN = "warn"
    RAISE = "raise"
    """Double the concurrency."""
    FASTEST = "fastest"
    """Put the target with the lowest latency first."""
    STOP = "stop"
    """Send nothing more: the deadline can't be met."""
    DEADLINE = "deadline"
    """Send nothing more: the deadline has passed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run. Times are seconds since the epoch.

    `ended` counts rows since `since_s`, when the run began or last changed its pace; `pending` rows
    are left. `warned` and `fastest` are actions that were taken before.
    """

    now_s: float
    deadline_s: float
    since_s: float
    ended: int
    pending: int
    concurrency: int = 1
    first_concurrency: int = 1
    warned: bool = False
    fastest: bool = False

    @property
    def end_s(self) -> float | None:
        """When the last row ends at this pace: infinity if no row ends, None if it is too early to tell."""
        elapsed_s = self.now_s - self.since_s
        measured_s = min(_MEASURED_S, (self.deadline_s - self.since_s) * _MEASURED_SHARE)
        if self.ended < _MEASURED_ROWS and elapsed_s < measured_s:
            return None
        if not self.ended or elapsed_s <= 0:
            return math.inf if self.pending else self.now_s
        return self.now_s + self.pending * elapsed_s / self.ended

    @property
    def pending_at_deadline(self) -> int:
        """How many rows have no result at the deadline, at this pace."""
        elapsed_s = self.now_s - self.since_s
        per_s = self.ended / elapsed_s if elapsed_s > 0 else 0.0
        return max(0, self.pending - math.floor(per_s * max(0.0, self.deadline_s - self.now_s)))


def decide(progress: Progress, on_miss: OnMiss) -> Action:
    """Return what to do about the deadline now."""
    if progress.now_s >= progress.deadline_s:
        return Action.DEADLINE
    end_s = progress.end_s
    if not progress.pending or end_s is None or end_s <= progress.deadline_s:
        return Action.KEEP
    if on_miss is OnMiss.STOP:
        return Action.STOP
    if on_miss is OnMiss.FASTER and progress.concurrency < progress.first_concurrency * MAX_SPEED_UP:
        return Action.RAISE
    if on_miss is OnMiss.FASTEST and not progress.fastest:
        return Action.FASTEST
    return Action.KEEP if progress.warned else Action.WARN


def _measured_anew(progress: Progress, **changed: int) -> Progress:
    return replace(progress, since_s=progress.now_s, ended=0, **changed)


_CLOCK_TIME = re.compile(r"\d{1,2}:\d{2}")


def read_deadline(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Read `--deadline`: the next `06:30` on the wall clock, or a date and time.

    A time that the clock skips in spring is the time that it would have been. A time that the clock
    shows twice in autumn is the next of the two.

    Args:
        text: `06:30`, `2026-11-23T06:30`, or the latter with the offset of another zone.
        now: an aware time.
        zone: the zone of a time without an offset.

    Raises:
        UsageError: it is not a time, or in the past.
    """
    remedy = "For example 06:30 or 2026-11-23T06:30"
    try:
        if _CLOCK_TIME.fullmatch(text):
            at = time.fromisoformat(text.zfill(len("06:30")))
            today = now.astimezone(zone).date()
            days = (today + timedelta(days=ahead) for ahead in range(-1, 3))
            times = (
                _utc(datetime.combine(day, at, zone).replace(fold=fold)) for day in days for fold in (0, 1)
            )
            return min(time for time in times if time > now)
        local = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"--deadline {text!r} is not a time", remedy=remedy) from None
    deadline = _utc(local if local.tzinfo is not None else local.replace(tzinfo=zone))
    if deadline <= now:
        raise UsageError(f"--deadline {text} is in the past", remedy=remedy)
    return deadline


def _utc(local: datetime) -> datetime:
    """Return a local time in UTC; a time that the clock skips is read as if the clock had not changed."""
    utc = local.astimezone(UTC)
    if utc.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        return local.replace(fold=0).astimezone(UTC)
    return utc


DEFAULT_FAIL_RATE = 0.2

_PASSED = (RowState.OK, RowState.TRUNCATED, RowState.DEGRADED)
"""States that don't count against the version: a last resort replies because of an outage."""


class Canary(StrEnum):
    """The result of a canary."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


def canary_result(rows: Mapping[RowState, int], max_fail_rate: float) -> Canary:
    """Return the result of a canary, as soon as no pending row can change it.

    Args:
        rows: the canary's rows by state.
        max_fail_rate: up to this share of all of them may fail (0 to 1).
    """
    total, pending = sum(rows.values()), rows.get(RowState.PENDING, 0)
    failed = failures(rows)
    allowed = Fraction(str(max_fail_rate)) * total
    if failed > allowed:
        return Canary.FAILED
    return Canary.PENDING if pending and failed + pending > allowed else Canary.PASSED


def failures(rows: Mapping[RowState, int]) -> int:
    """Return how many rows failed, were refused or are invalid."""
    return sum(count for state, count in rows.items() if state not in (*_PASSED, RowState.PENDING))


def canary_failed(job: str, rows: Mapping[RowState, int], max_fail_rate: float) -> StoppedEarly:
    """Return the error of a job whose canary failed."""
    return StoppedEarly(
        f"the canary failed: {failures(rows):,} of {counted(sum(rows.values()), 'row')} failed, at most "
        f"{max_fail_rate:.0%} may; the other rows were not sent",
        remedy=f"Run `promptkit jobs show {job}` for the reasons. Correct the template and start another --job. Or "
        "continue this job: --retry-failed repeats the canary, --canary 0 skips it.",
    )


_MAX_BACKOFF_S = 60.0
"""The waits within an outage double up to this, so the end of an outage is noticed at most this late."""


class NoReply(StrEnum):
    """What happens to a row that no target replied to."""

    RETRY = "retry"
    """The row is sent once more in this run."""
    FAIL = "fail"
    STOP = "stop"
    """The run ends; the row stays pending."""


@dataclass(slots=True)
class Outages:
    """The provider outages of one run. Times are seconds since the epoch.

    `max_wait_s` is how long the run continues without a reply from any target; `replied_s` is when
    the last reply came, or the run began.
    """

    max_wait_s: float
    replied_s: float
    resumes_s: float = 0.0
    """No row is started before."""
    retried: int = 0
    """Rows that this run sends once more."""
    _streak: int = 0
    _first_s: dict[int, float] = field(default_factory=dict[int, float])
    """When a row first got no reply, by its id."""

    def reply(self, now_s: float) -> None:
        """Record a reply from any target."""
        self.replied_s, self._streak = now_s, 0

    def no_reply(self, row_id: int, began_s: float, now_s: float, retry_at_s: float | None) -> NoReply:
        """Record that no target replied to a row, and return what happens to the row.

        Args:
            row_id: the row.
            began_s: when its call began.
            now_s: when its call ended.
            retry_at_s: when the first target's circuit is half-open, if known.
        """
        if self._first_s.setdefault(row_id, now_s) < self.replied_s:
            return NoReply.FAIL  # others got replies since: it is this row that no target can serve
        if self.replied_s <= began_s:
            retry_s = max(now_s, retry_at_s or 0.0)
            if retry_s >= self.replied_s + self.max_wait_s:
                return NoReply.STOP
            self._streak += 1
            wait_s = min(2.0**self._streak, _MAX_BACKOFF_S)
            self.resumes_s = max(self.resumes_s, retry_s, now_s + wait_s)
        self.retried += 1
        return NoReply.RETRY

    def notice(self, zone: tzinfo, reason: str) -> str:
        """Return the notice for the user while the run waits."""
        since = datetime.fromtimestamp(self.replied_s, zone)
        return (
            f"no reply from any target since {since:%H:%M:%S}. The batch waits up to "
            f"{self.max_wait_s / 60:g} minutes for one (outage_s), then stops. First reason: {reason}"
        )
