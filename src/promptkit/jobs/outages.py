"""What becomes of a row that no target answered, when nothing speaks against the row itself. Pure.

While nobody is answered it is an outage: the run pauses and goes on, and stops when the last
answer lies further back than its patience. The row has another turn at the end of the run. Was
anybody answered between its turns and it is left alone once more, then it is the row: it fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Final

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

    `patience_s` is how long the run goes on with no answer from anywhere; `answered_s` is when
    the last one came, at first when the run began.
    """

    patience_s: float
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
            if opens_s >= self.answered_s + self.patience_s:
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
        f"{outages.patience_s / 60:g} minutes (outage_s), then stops; the first reason: {why}"
    )
