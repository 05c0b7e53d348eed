"""Time that runs fast while nobody works."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from promptkit.reports.fast_clock import FastClock


@dataclass
class Machine:
    """A machine's clocks, and a selector that waits by them."""

    seconds: float = 1000.0
    waits: list[float] = field(default_factory=list[float])

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return 1.8e9 + self.seconds

    def select(self, timeout_s: float) -> list[Any]:
        """Nothing comes."""
        self.waits.append(timeout_s)
        self.seconds += timeout_s
        return []


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(sys.modules[FastClock.__module__], "time", made)
    return made


def test_a_wait_is_a_fraction_of_what_it_counts(machine: Machine) -> None:
    """An hour, in the seconds that the machine waits: a moment at its own pace, then the rest a hundred times as fast."""
    clock = FastClock(speed=100)
    steady, day = clock.steady(), clock.now()
    clock.wait(machine.select, 3600)
    assert clock.steady() - steady == pytest.approx(3600)
    assert clock.now() - day == pytest.approx(3600)
    assert machine.waits == [pytest.approx(0.002), pytest.approx(36, abs=0.01)]


def test_work_takes_the_time_that_it_takes(machine: Machine) -> None:
    """A slow machine makes nothing time out: only waiting is fast, and not where something comes at once."""
    clock = FastClock(speed=100)
    steady, day = clock.steady(), clock.now()
    machine.seconds += 5
    clock.wait(machine.select, 0.001)
    assert clock.steady() - steady == pytest.approx(5.001)
    assert clock.now() - day == pytest.approx(5.001)
    assert machine.waits == [0.001]


def test_sleeps_timers_and_timeouts_play_an_hour() -> None:
    """All of asyncio's time goes by the clock, and so does the time of day."""
    clock = FastClock(speed=100_000)
    seen: list[float] = []

    async def live() -> None:
        loop = asyncio.get_running_loop()
        began, day = loop.time(), clock.now()
        loop.call_later(1800, lambda: seen.append(loop.time() - began))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        for passed in (loop.time() - began, clock.now() - day):
            assert passed >= 3600

    with asyncio.Runner(loop_factory=clock.loop) as runner:
        runner.run(live())
    assert [at >= 1800 for at in seen] == [True]
