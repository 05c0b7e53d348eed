"""Time that runs fast while nobody works, for everything in one event loop at once.

All sleeps, timeouts and timers of asyncio go by their loop's `time()` and end in its selector's
`select()`. So a loop whose selector waits a fraction of what it is asked, and counts the whole,
plays five minutes of an outage in seconds, simulator, engine and hints alike, and not one of
them knows. While there is work, time passes as it does: a slow machine makes nothing time out.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Final

SPEED: Final = 60.0
"""Seconds played in a second that nobody uses."""


_PATIENCE_S: Final = 0.002
"""A wait begins at its own pace: a reply or a commit that is about to come takes what it takes."""


_Ready = tuple[selectors.SelectorKey, int]


class FastClock:
    """A clock, and the loops that run by it.

    Args:
        speed: how many seconds pass in one, while nothing happens.
    """

    def __init__(self, speed: float = SPEED) -> None:
        self._speed = speed
        self._skipped_s = 0.0

    def steady(self) -> float:
        """Seconds since some moment; it never goes back."""
        return time.monotonic() + self._skipped_s

    def now(self) -> float:
        """Seconds since the epoch, as far as has been played."""
        return time.time() + self._skipped_s

    def loop(self) -> asyncio.AbstractEventLoop:
        """A new event loop that runs by this clock: `asyncio.Runner(loop_factory=clock.loop)`."""
        return _Loop(self)

    def wait(self, select: Callable[[float], list[_Ready]], timeout_s: float) -> list[_Ready]:
        """Wait for what a selector's `select` waits for, fast."""
        ready = select(min(timeout_s, _PATIENCE_S))
        left_s = timeout_s - _PATIENCE_S
        if ready or left_s <= 0:
            return ready
        began = time.monotonic()
        ready = select(left_s / self._speed)
        self._skipped_s += (time.monotonic() - began) * (self._speed - 1)
        return ready


class _Selector(selectors.DefaultSelector):
    """What asyncio waits with, by a clock."""

    def __init__(self, clock: FastClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[_Ready]:
        """As always, but faster."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        return self._clock.wait(super().select, timeout)


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, by a clock."""

    def __init__(self, clock: FastClock) -> None:
        self._by = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        """The clock's steady time, which all timers go by."""
        return self._by.steady()
