"""What the end of a flow means for the call and for its row. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from promptkit.routing.flow import Answered, GaveUp, Verdict
from promptkit.types import Attempt, Fault, Finish, Status

_NOTHING_SENT: Final = frozenset({Fault.BUDGET, Fault.UNPRICED})
"""What promptkit's own rules refused: the row waits until they allow it."""

EVERYBODYS: Final = frozenset({Fault.AUTH, Fault.QUOTA, Fault.MODEL_GONE})
"""Faults that would have hit any other row as well."""

_PAUSES: Final = frozenset({Fault.RATE_LIMIT, Fault.NO_CAPACITY})
"""Faults that would, while every target is closed."""


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


def row_stays(verdict: Verdict, attempts: Iterable[Attempt]) -> bool:
    """Whether a row of the call is still to be done: nothing that failed was about the row itself.

    One attempt that says something about the row (it is too long, it was refused) is enough to
    end it; else a single such row could stop its job again and again.
    """
    if isinstance(verdict, Answered):
        return False
    failure = verdict.failure
    if failure is None or failure.fault in _NOTHING_SENT:
        return True
    others = EVERYBODYS if verdict.retry_at_s is None else EVERYBODYS | _PAUSES
    return others.issuperset({failure.fault, *(attempt.fault for attempt in attempts)})
