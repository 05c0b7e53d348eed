"""What the end of a flow means for the call and for its row. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from promptkit.routing.flow import Answered, GaveUp, Plan, Verdict
from promptkit.types import Attempt, Fault, Finish, Status

_NOTHING_SENT: Final = frozenset({Fault.BUDGET, Fault.UNPRICED})
"""What promptkit's own rules refused: the row waits until they allow it."""

EVERYBODYS: Final = frozenset({Fault.AUTH, Fault.QUOTA, Fault.MODEL_GONE})
"""Faults that would have hit any other row as well."""

_PAUSES: Final = frozenset({Fault.RATE_LIMIT, Fault.NO_CAPACITY})
"""Faults that would, while every target is closed."""

_PASSING: Final = (
    EVERYBODYS | _PAUSES | frozenset({Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY})
)
"""Faults of an outage, and those that may come with it."""


def status_of(verdict: Verdict) -> Status:
    """How the call ended."""
    if isinstance(verdict, GaveUp):
        refused = verdict.failure is not None and verdict.failure.fault is Fault.CONTENT
        return Status.REFUSED if refused else Status.FAILED
    if verdict.degraded:
        return Status.DEGRADED
    return Status.OK if verdict.completion.finish is Finish.STOP else Status.TRUNCATED


def text_of(verdict: Verdict) -> str:
    """The reply, or what was shown of one that broke off; empty where none came."""
    if isinstance(verdict, Answered):
        return verdict.completion.text
    failure = verdict.failure
    return failure.text if failure is not None and failure.shown else ""


def is_outage(verdict: Verdict, attempts: Iterable[Attempt], plan: Plan) -> bool:
    """Whether a row was left without an answer by what passes, and that says nothing of the row.

    Only where the plan lets a batch wait for better times; else such a row fails.
    """
    if isinstance(verdict, Answered) or not plan.outage_s:
        return False
    faults = _faults(verdict, attempts)
    if not faults:
        return verdict.retry_at_s is not None
    if Fault.UNKNOWN_OUTCOME in faults and not plan.resend_unknown:
        return False
    return faults <= _PASSING and not faults <= EVERYBODYS


def row_stays(verdict: Verdict, attempts: Sequence[Attempt], plan: Plan) -> bool:
    """Whether a row of the call is still to be done: nothing that failed was about the row itself.

    One attempt that says something about the row (it is too long, it was refused) is enough to
    end it; else a single such row could stop its job again and again.
    """
    if isinstance(verdict, Answered):
        return False
    failure = verdict.failure
    if failure is None or failure.fault in _NOTHING_SENT or is_outage(verdict, attempts, plan):
        return True
    others = EVERYBODYS if verdict.retry_at_s is None else EVERYBODYS | _PAUSES
    return others >= _faults(verdict, attempts)


def _faults(verdict: GaveUp, attempts: Iterable[Attempt]) -> set[Fault | None]:
    faults: set[Fault | None] = {attempt.fault for attempt in attempts}
    return faults if verdict.failure is None else faults | {verdict.failure.fault}
