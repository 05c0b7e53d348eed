"""What an outage cost, counted from the simulator's journal and bill and from the books. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the rows of one outage. Times are seconds as they were played.

    Attributes:
        rows: how many there were.
        answered: those that the route answered.
        degraded: those that the last resort answered.
        waiting: those that still wait for another start.
        requests: what the providers were sent, or would have been: a refused connection counts.
        paid_twice: replies that came whole and were billed, beyond one a row.
        over_pico: what was spent above a cap, or billed above what the books charge.
        charged_pico: what the books charge, attempts of unknown cost at their ceilings.
        hints_ignored: requests sent before a Retry-After had passed.
        first_s: until the first answer; None where none came.
        seconds: until the last row was done.
        stop: what stopped the job before its rows did.
    """

    rows: int
    answered: int = 0
    degraded: int = 0
    waiting: int = 0
    requests: int = 0
    paid_twice: int = 0
    over_pico: int = 0
    charged_pico: int = 0
    hints_ignored: int = 0
    first_s: float | None = None
    seconds: float = 0.0
    stop: str = ""

    @property
    def lost(self) -> int:
        """Rows without an answer."""
        return self.rows - self.answered - self.degraded

    @property
    def a_success(self) -> float | None:
        """Requests an answer; None where none came."""
        made = self.answered + self.degraded
        return self.requests / made if made else None


def paid_twice(lines: Iterable[Mapping[str, Any]], answered: int) -> int:
    """Replies that a provider billed and delivered whole, beyond those that were answers.

    Args:
        lines: of the simulator's bill.
        answered: how many rows have a reply.
    """
    return max(sum(line["billed"] and line["delivered"] for line in lines) - answered, 0)


def hints_ignored(notes: Iterable[Mapping[str, Any]], at_once: int) -> int:
    """Requests that were sent to a provider before the time that it had asked for.

    Args:
        notes: the simulator's journal, in order.
        at_once: calls under way together: so many were sent before the first of them could know.
    """
    until: dict[str, float] = {}
    excused: dict[str, int] = {}
    ignored = 0
    for note in notes:
        where, hint_s = note["provider"], note["retry_after_s"]
        at_s = datetime.fromisoformat(note["time"]).timestamp()
        if at_s < until.get(where, 0.0):
            ignored += excused[where] == 0
            excused[where] -= excused[where] > 0
        elif hint_s is not None:
            excused[where] = at_once - 1
        if hint_s is not None:
            until[where] = max(until.get(where, 0.0), at_s + hint_s)
    return ignored
