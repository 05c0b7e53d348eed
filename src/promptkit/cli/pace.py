"""How a job gets on: rows, rate, what is left, what it cost so far. Pure: time comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promptkit.errors import counted
from promptkit.types import RowResult, Status, dollars

from .times import lasting

_FAILED: Final = (Status.FAILED, Status.REFUSED)


@dataclass(slots=True)
class Pace:
    """Counts results as they come.

    Args:
        total: rows of the job.
        done: rows that were done before this run.
        to_do: rows that this run will do.
        pico: what the job had cost before.
        cap_pico: the most that the job may cost; None where nothing says.
    """

    total: int
    done: int
    to_do: int
    pico: int = 0
    made: int = 0
    failed: int = 0
    degraded: int = 0
    unknown: int = 0
    cap_pico: int | None = None

    def add(self, result: RowResult) -> None:
        """Count a row that has just finished."""
        self.made += 1
        self.failed += result.status in _FAILED
        self.degraded += result.status is Status.DEGRADED
        if result.cost is not None:
            self.pico += result.cost.pico
        elif result.call is not None:
            self.unknown += 1

    def take(self, made: int, failed: int, degraded: int, pico: int, unknown: int) -> None:
        """Take over what the ledger says, where another process makes the rows."""
        self.made, self.failed, self.degraded, self.pico, self.unknown = made, failed, degraded, pico, unknown

    @property
    def finished(self) -> int:
        """Rows that are done, before and now."""
        return self.done + self.made

    def rate(self, elapsed_s: float) -> float | None:
        """Rows a second; None as long as nothing can be said."""
        return self.made / elapsed_s if self.made and elapsed_s > 0 else None

    def left_s(self, elapsed_s: float) -> float | None:
        """Seconds until the rows of this run are done, at the pace so far."""
        rate = self.rate(elapsed_s)
        return None if rate is None else max(0, self.to_do - self.made) / rate

    def troubles(self) -> str:
        """`3 failed, 1 degraded`, or nothing."""
        told = ((self.failed, "failed"), (self.degraded, "degraded"))
        return ", ".join(f"{count:,} {word}" for count, word in told if count)

    def cost(self) -> str:
        """`$0.42 of $5.00`, and how many calls of unknown cost come on top."""
        cap = "" if self.cap_pico is None else f" of {dollars(self.cap_pico)}"
        return dollars(self.pico) + (f" + {self.unknown:,} unknown" if self.unknown else "") + cap

    def speed(self, elapsed_s: float) -> str:
        """`41 rows/s`, or `12 rows/min` where it is slow."""
        rate = self.rate(elapsed_s)
        if rate is None:
            return ""
        return f"{rate:,.1f} rows/s" if rate >= 1 else f"{rate * 60:,.0f} rows/min"

    def line(self, elapsed_s: float) -> str:
        """All of it in one line."""
        left = self.left_s(elapsed_s)
        told = [
            f"{self.finished:,} of {counted(self.total, 'row')}",
            self.troubles(),
            self.speed(elapsed_s),
            "" if not left else f"about {lasting(left)} left",
            f"{self.cost()} so far",
        ]
        return ", ".join(part for part in told if part)
