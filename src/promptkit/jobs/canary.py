"""A canary: the first rows of a job go alone, and too many that fail keep the others from being sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Final

from promptkit.errors import StoppedEarly, counted
from promptkit.ledger import RowState

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
        remedy=f"`promptkit jobs show {job}` tells why. Mend the skeleton and run it as another --job; or go on all "
        "the same: --retry-failed tries the canary again, --canary 0 does without it.",
    )
