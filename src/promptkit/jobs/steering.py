"""A run looks up now and then: is it still wanted, what time is it, will it be done in time."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from promptkit.errors import PromptKitError, StoppedEarly, counted
from promptkit.ledger import JobState
from promptkit.session import Session

from .deadline import Course, Move, decide
from .options import JobOptions

if TYPE_CHECKING:
    from promptkit.ledger import JobRecord, Ledger

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
        if self._ledger.job_state(self._job.id) is JobState.CANCELLED:
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
