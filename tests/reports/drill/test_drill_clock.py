"""Time that runs fast while nobody works."""

from __future__ import annotations

import asyncio
import time

import pytest

from promptkit.reports.fast_clock import FastClock


def test_sleeps_timers_and_timeouts_play_an_hour() -> None:
    """All of asyncio's time goes by the clock, and so does the time of day."""
    clock = FastClock(speed=100_000)
    seen: list[float] = []

    async def live() -> None:
        loop = asyncio.get_running_loop()
        began, day, real = loop.time(), clock.now(), time.monotonic()
        loop.call_later(1800, lambda: seen.append(loop.time() - began))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        for passed in (loop.time() - began, clock.now() - day):
            assert passed >= 3600
        assert clock.steady() - began > 100 * (time.monotonic() - real)

    with asyncio.Runner(loop_factory=clock.loop) as runner:
        runner.run(live())
    assert [at >= 1800 for at in seen] == [True]


def test_work_takes_the_time_that_it_takes() -> None:
    """A slow machine makes nothing time out: only waiting is fast."""
    clock = FastClock(speed=100_000)

    async def live() -> float:
        began = clock.steady()
        time.sleep(0.05)  # noqa: ASYNC251 - the work that blocks the loop
        return clock.steady() - began

    with asyncio.Runner(loop_factory=clock.loop) as runner:
        assert 0.05 <= runner.run(live()) < 60
