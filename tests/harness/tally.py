"""What was done to a night's job, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frame import Comparison


@dataclass(slots=True)
class Tally:
    """What was done to a job, and what came of it; `wrong` is empty where all held.

    Attributes:
        name: which of the nights it was.
        rows: of the input.
        slots: of the command's concurrency.
        pack: rows that may share a request; 1 for none.
        runs: of the command.
        kills: SIGKILLs by where they struck.
        stops: runs that ended with exit 9, by what was wrong.
        requests: that arrived at the simulator.
        repeated: of them for rows that had one before; each is explained by an unknown attempt.
        paid_again: of them for a row whose reply was stored already. Never.
        books: held against the bill.
        seconds: wall time.
        wrong: everything that should not be.
    """

    name: str
    rows: int
    slots: int
    pack: int = 1
    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    stops: Counter[str] = field(default_factory=Counter[str])
    requests: int = 0
    repeated: int = 0
    paid_again: int = 0
    books: Comparison = field(default_factory=Comparison)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list[str])

    @property
    def unknown_allowed(self) -> int:
        """One attempt a slot for each run that was cut off."""
        return self.slots * (self.kills.total() + self.stops.total())

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return {**told, "books": self.books.as_json(), "unknown_allowed": self.unknown_allowed}

    def as_text(self) -> str:
        """For people."""
        books, unknown = self.books, sum(self.books.unknown.values())
        packed = f", packs of {self.pack}" if self.pack > 1 else ""
        lines = [
            f"{self.name}: {self.rows:,} rows, {self.slots} at once{packed}, {self.runs} runs, {self.seconds:.0f} s",
            f"  kills        {self.kills.total()}: {_told(self.kills)}",
            *([f"  exit 9       {self.stops.total()}: {_told(self.stops)}"] if self.stops else []),
            f"  requests     {self.requests:,} arrived",
            f"               {self.repeated} for a row that had one before, {self.paid_again} for a row with a stored reply",
            f"  bill         {books.billed:,} lines, {books.billed_pico:,} pico-USD",
            f"  books        {books.known:,} attempts of known cost, {books.known_pico:,} pico-USD, each as billed",
            f"  difference   {books.billed_pico - books.known_pico:,} pico-USD: {books.unmatched} lines, whose attempts are unknown",
            f"  unknown      {unknown} attempts (at most {self.unknown_allowed}), charged {books.unknown_charged_pico:,} pico-USD",
            *(f"  WRONG        {text}" for text in self.wrong),
        ]
        return "\n".join(lines)


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
