"""A clock that runs fast while everything waits, for a whole event loop at once.

All sleeps, timeouts and timers of asyncio use their loop's `time()` and end in its selector's
`select()`. A loop whose selector waits a fraction of the timeout, but counts all of it, simulates
five minutes of an outage in seconds: for the simulator, the engine and its retry-after hints alike.
While there is work, time passes as it does, so a slow machine causes no timeouts.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable

SPEED = 60.0
"""Simulated seconds per idle second."""
_NORMAL_S = 0.002
"""A wait starts at normal speed: a reply or a commit that is about to come takes as long as it takes."""
_Ready = tuple[selectors.SelectorKey, int]


class FastClock:
    """A clock, and the event loops that use it.

    Args:
        speed: simulated seconds per idle second.
    """

    def __init__(self, speed: float = SPEED) -> None:
        self._speed = speed
        self._skipped_s = 0.0

    def steady(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic() + self._skipped_s

    def now(self) -> float:
        """Return simulated seconds since the epoch."""
        return time.time() + self._skipped_s

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop that uses this clock: `asyncio.Runner(loop_factory=clock.loop)`."""
        return _Loop(self)

    def wait(self, select: Callable[[float], list[_Ready]], timeout_s: float) -> list[_Ready]:
        """Call a selector's `select`, with the timeout shortened."""
        ready = select(min(timeout_s, _NORMAL_S))
        left_s = timeout_s - _NORMAL_S
        if ready or left_s <= 0:
            return ready
        began = time.monotonic()
        ready = select(left_s / self._speed)
        self._skipped_s += (time.monotonic() - began) * (self._speed - 1)
        return ready


class _Selector(selectors.DefaultSelector):
    def __init__(self, clock: FastClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[_Ready]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        return self._clock.wait(super().select, timeout)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: FastClock) -> None:
        self._clock = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._clock.steady()
