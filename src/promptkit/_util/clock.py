"""Time in microseconds, as the ledger stores it, and in seconds, as clocks give it."""

from __future__ import annotations


def us_of(seconds: float) -> int:
    """Convert seconds to whole microseconds, rounded down."""
    return int(seconds * 1e6)


def seconds_of(us: int) -> float:
    """Convert microseconds to seconds."""
    return us / 1e6
