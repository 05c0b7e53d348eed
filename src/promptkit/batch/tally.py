"""What became of a job's rows, and the exit code that says it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from promptkit.errors import ExitCode, worst
from promptkit.types import RowResult, Status

from .output import usd_text

_BAD: Final = (Status.FAILED, Status.REFUSED, Status.DEGRADED)


class Tally:
    """Counts results by status and adds up what they cost.

    `stops` collects the codes of what ended or hampered the whole job: a budget (6), a deadline (8).
    A truncated row has its text and is no failure of the job; a degraded one is.
    """

    __slots__ = ("cost_pico", "counts", "stops", "unpriced")

    def __init__(self, results: Iterable[RowResult] = (), stops: Iterable[ExitCode] = ()) -> None:
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.stops: set[ExitCode] = set(stops)
        self.cost_pico = 0
        self.unpriced = 0
        for result in results:
            self.add(result)

    def add(self, result: RowResult) -> None:
        """Count one result; a call whose cost is unknown is counted apart, not as nothing."""
        self.counts[result.status] += 1
        if result.cost is not None:
            self.cost_pico += result.cost.pico
        elif result.call is not None:
            self.unpriced += 1

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with, by the order of `errors.worst`."""
        failed = any(self.counts[status] for status in _BAD)
        return worst([*self.stops, *([ExitCode.SOME_FAILED] if failed else [])])

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {status}" for status, count in self.counts.items() if count)
        money = f"${usd_text(self.cost_pico)}"
        unknown = f" + {self.unpriced:,} of unknown cost" if self.unpriced else ""
        return f"{told or 'no rows'}; {money}{unknown}"
