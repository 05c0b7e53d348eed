"""Limits that are kept: nearly all of what is allowed is used, and next to nothing is refused."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
import virtual_time
from studio import ALL, ANTHROPIC, KEYS, OPENAI, REF, Studio, attempts_of, until

from promptkit import AsyncPromptKit
from promptkit.engine.limits import ConcurrencyLimit, RateLimiters
from promptkit.errors import AllTargetsFailed
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.shared import LimitKey
from promptkit.routing.catalog import Catalog
from promptkit.routing.limits import BURST_S
from promptkit.simulator.scenario import LimitRule, Scenario
from promptkit.simulator.server import Simulator
from promptkit.templates.reference import parse_ref
from promptkit.types import (
    Call,
    Completion,
    Finish,
    Limits,
    Message,
    Model,
    Params,
    Prompt,
    Provider,
    Role,
    Target,
)

WORKER = Path(__file__).parents[2] / "studio_worker.py"
PER_MINUTE = 480
RATE = PER_MINUTE / 60
"""Requests a second."""
BURST = RATE * BURST_S
REFUSED = 429
virtually = pytest.mark.virtual_time


def limits(**told: int) -> str:
    """The limits of the first provider, as promptkit.toml has them."""
    return "[providers.openai.limits]\n" + "".join(f"{name} = {value}\n" for name, value in told.items())


async def ask(kit: AsyncPromptKit, brand: str = "Barly") -> str:
    return str((await kit.run(REF, {"brand": brand})).target)


async def ask_many(kit: AsyncPromptKit, count: int, concurrency: int) -> list[str]:
    """So many calls, so many at once."""
    numbers, answers = iter(range(count)), list[str]()

    async def work() -> None:
        for number in numbers:
            answers.append(await ask(kit, f"B{number}"))

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return answers


@dataclass
class Limited:
    """A studio, and a provider of which somebody has used up most of a minute."""

    studio: Studio
    used: int

    def arrivals(self) -> list[float]:
        """When requests of promptkit came."""
        return arrivals(self.studio)[self.used :]

    def refused(self) -> int:
        """How many of them met a 429."""
        return sum(note["status"] == REFUSED for note in self._notes())

    def _notes(self) -> list[dict[str, object]]:
        return [dict(note) for note in self.studio.sim.requests()[self.used :]]


@pytest.fixture
async def limited(tmp_path: Path, blank_database: Path) -> AsyncIterator[Limited]:
    rule = LimitRule(requests_per_minute=PER_MINUTE)
    clock = virtual_time.clock()
    async with Simulator(seed=7, scenario=Scenario(limits={"openai": rule}), clock=clock) as sim:
        studio = Studio.build(tmp_path, sim, blank_database)
        studio.configure(targets=ALL[:1], tables=limits(requests_per_minute=PER_MINUTE))
        used = PER_MINUTE - int(BURST) - 8
        await _use_up(sim.base_url("openai"), used)
        yield Limited(studio, used)


async def _use_up(url: str, count: int) -> None:
    """What a colleague does with the same key."""
    body = {"model": "gpt-6-luna", "input": "hi", "store": False, "max_output_tokens": 16}
    headers = {"authorization": f"Bearer {KEYS['OPENAI_API_KEY']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(count):
            async with session.post(f"{url}/responses", json=body) as reply:
                assert reply.status == 200


def arrivals(studio: Studio) -> list[float]:
    """When requests came, by the simulator's journal."""
    return [datetime.fromisoformat(str(note["time"])).timestamp() for note in studio.sim.requests()]


def in_window(times: Sequence[float], begins_s: float, seconds: float) -> int:
    return sum(begins_s <= at < begins_s + seconds for at in times)


@virtually
async def test_one_process_uses_what_is_allowed_and_meets_no_429(limited: Limited) -> None:
    """Sixteen at once on eight a second: all of the rate is used, and nothing is refused.

    Without the limit in its provider file the same load is refused dozens of times.
    """
    async with limited.studio.kit() as kit:
        assert set(await ask_many(kit, 64, 16)) == {OPENAI}
    times = limited.arrivals()
    assert (len(times), limited.refused()) == (64, 0)
    # The burst at once, then one at each turn: what the clock says, which stands still while there is work.
    turns = [max(0, number - BURST) / RATE for number in range(1, 65)]
    assert [at - times[0] for at in times] == pytest.approx(turns, abs=1 / RATE)
    assert RATE * (times[-1] - times[0]) == pytest.approx(64 - BURST, abs=1)


@virtually
async def test_without_its_limit_the_same_load_is_refused(limited: Limited) -> None:
    """What the test above would see of a client that keeps no limits."""
    limited.studio.configure(targets=ALL[:1], route="max_wait_s = 0\nattempts = 1")
    async with limited.studio.kit() as kit:
        calls = (kit.run(REF, {"brand": f"B{n}"}) for n in range(64))
        failed = [
            one for one in await asyncio.gather(*calls, return_exceptions=True) if isinstance(one, Exception)
        ]
    assert limited.refused() > 1
    assert len(failed) > 10


@virtually
async def test_three_ledgers_share_what_is_allowed(limited: Limited) -> None:
    """Leases in the ledger: together they use at least 90 % of the rate and no more than all of it."""
    async with AsyncExitStack() as stack:
        kits = [await stack.enter_async_context(limited.studio.kit()) for _ in range(3)]
        calling = [asyncio.create_task(ask_many(kit, 200, 8)) for kit in kits]
        await until(lambda: len(limited.arrivals()) >= BURST)
        begins_s = limited.arrivals()[-1]
        await asyncio.sleep(5.5)
        for calls in calling:
            calls.cancel()
        await asyncio.gather(*calling, return_exceptions=True)
    times = limited.arrivals()
    assert in_window(times, begins_s, 5) >= 0.9 * RATE * 5
    assert len(times) <= RATE * (times[-1] - times[0]) + BURST + RATE  # a late permit is not lost
    assert limited.refused() == 0


async def test_three_processes_share_what_is_allowed(limited: Limited) -> None:
    """However fast or slow they are, next to nothing is refused."""
    command = [sys.executable, str(WORKER), str(limited.studio.folder)]
    workers = [
        await asyncio.create_subprocess_exec(
            *command, f"job-{n}", str(1000 * n), "200", "8", stdout=asyncio.subprocess.PIPE
        )
        for n in range(3)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert await worker.stdout.readline()  # each of them has its part
        more = len(limited.arrivals()) + int(BURST) + 8
        await until(lambda: len(limited.arrivals()) >= more)
    finally:
        for worker in workers:
            worker.kill()
        await asyncio.gather(*(worker.communicate() for worker in workers))
    assert limited.refused() <= 0.01 * len(limited.arrivals())


@virtually
async def test_a_used_up_limit_sends_the_call_to_an_open_target(studio: Studio) -> None:
    """A turn that is further off than a few seconds is left to the next target."""
    studio.configure(targets=ALL[:2], tables=limits(requests_per_minute=6))
    async with studio.kit() as kit:
        answers = [await ask(kit, f"B{n}") for n in range(6)]
    assert answers[0] == OPENAI
    assert ANTHROPIC in answers
    assert studio.asked("openai") <= 2


@virtually
async def test_waiting_for_ones_turn_is_no_impatience(studio: Studio) -> None:
    """With no other target a call waits its turn, whatever its patience."""
    studio.configure(targets=ALL[:1], route="max_wait_s = 0", tables=limits(requests_per_minute=60))
    async with studio.kit() as kit:
        assert set(await ask_many(kit, 5, 5)) == {OPENAI}
    times = arrivals(studio)
    assert [at - times[0] for at in times] == pytest.approx([0, 0, 0, 1, 2], abs=0.01)


@virtually
async def test_tokens_are_limited_too(studio: Studio) -> None:
    """Debited by estimate, put right by what the reply used: the next call waits for what this one took."""
    studio.configure(targets=ALL[:1], tables=limits(output_tokens_per_minute=3000))
    async with studio.kit() as kit:
        replies = [await kit.run(REF, {"brand": f"B{n}"}) for n in range(4)]
        used = sum(reply.usage.output_tokens for reply in replies[:-1] if reply.usage)
        started = [attempt.started_us for attempt in attempts_of(await kit.session.ledger())]
    assert (started[-1] - started[0]) / 1e6 >= used / 50 - BURST_S - 1


@virtually
async def test_requests_of_a_day_are_counted_over_processes(studio: Studio) -> None:
    """What one process used is gone for the next; then the target is closed until its day ends."""
    studio.configure(targets=ALL[:1], tables=limits(requests_per_day=3), route="max_wait_s = 1")
    for _ in range(3):
        async with studio.kit() as kit:
            assert await ask(kit) == OPENAI
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed, match="3 requests of the day are used up"):
            await ask(kit)
    assert studio.asked() == 3


@virtually
async def test_single_calls_use_up_one_request_of_the_day_each(studio: Studio) -> None:
    """Nothing is leased ahead for a process that makes one call: all of a large day can be used that way."""
    studio.configure(targets=ALL[:1], tables=limits(requests_per_day=20_000))
    for _ in range(2):
        async with studio.kit() as kit:
            assert await ask(kit) == OPENAI
    assert _leased_today(studio) == 2


@virtually
async def test_no_more_at_once_than_allowed(studio: Studio) -> None:
    """Concurrency of a provider is kept, whoever asks."""
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.2, "times": None}])
    studio.configure(targets=ALL[:1], tables=limits(concurrency=3))
    async with studio.kit() as kit:
        await ask_many(kit, 9, 9)
    times = arrivals(studio)
    assert [at - times[0] for at in times] == pytest.approx([0, 0, 0, 0.2, 0.2, 0.2, 0.4, 0.4, 0.4], abs=0.01)


async def test_processes_share_the_slots(studio: Studio) -> None:
    """Each that uses them takes its equal part; one that went away leaves its part to the others."""
    now_s = [1000.0]
    place = LimitKey("openai", "abc", "")
    path = studio.folder / "promptkit.db"
    with Ledger.open(path) as one, Ledger.open(path) as two:
        mine, theirs = (ConcurrencyLimit(place, 8, ledger, lambda: now_s[0]) for ledger in (one, two))
        await mine.acquire()
        await until(lambda: _leases(studio) == 1)
        await theirs.acquire()
        await until(lambda: theirs.allowed == 4)
        now_s[0] += 3
        await mine.acquire()
        await until(lambda: mine.allowed == 4)
        now_s[0] += 10
        await mine.acquire()
        await until(lambda: mine.allowed == 8)


async def test_a_cancelled_wait_takes_nothing(studio: Studio) -> None:
    """Whoever waited for a slot and is gone leaves it to the next, in every order of events."""
    with Ledger.open(studio.folder / "promptkit.db") as ledger:
        slots = ConcurrencyLimit(LimitKey("openai", "", ""), 1, ledger, lambda: 1000.0)
        await slots.acquire()
        first, second = asyncio.create_task(slots.acquire()), asyncio.create_task(slots.acquire())
        await asyncio.sleep(0)
        slots.release()  # to the first, who is cancelled before it can run
        first.cancel()
        await second
        third = asyncio.create_task(slots.acquire())
        await asyncio.sleep(0)
        third.cancel()
        await asyncio.gather(first, third, return_exceptions=True)
        slots.release()
        assert slots.in_use == 0


@virtually
async def test_headers_hold_back(tmp_path: Path, blank_database: Path) -> None:
    """The provider allows less than the file says: the replies' headers slow promptkit down before a 429 does."""
    async with Simulator(
        seed=7,
        scenario=Scenario(limits={"openai": LimitRule(requests_per_minute=120)}),
        clock=virtual_time.clock(),
    ) as sim:
        studio = Studio.build(tmp_path, sim, blank_database)
        studio.configure(targets=ALL[:1], tables=limits(requests_per_minute=6000))
        await _use_up(sim.base_url("openai"), 112)
        async with studio.kit() as kit:
            await ask_many(kit, 14, 1)
        times = arrivals(studio)[112:]
        assert len(times) == 14
        assert times[-1] - times[0] > 2
        assert [note["status"] for note in sim.requests()[112:]].count(REFUSED) == 0


async def test_without_limits_there_is_no_gate(studio: Studio) -> None:
    """Nothing is leased where nothing is limited but slots that are far from used."""
    async with studio.kit() as kit:
        for n in range(5):
            await ask(kit, f"B{n}")
    assert _leases(studio) == 0


def _leased_today(studio: Studio) -> int:
    with closing(sqlite3.connect(studio.folder / "promptkit.db")) as books:
        rows = books.execute("SELECT amount FROM leases WHERE kind = 'requests_today'").fetchall()
    [(amount,)] = rows
    return int(amount)


def _leases(studio: Studio) -> int:
    connection = sqlite3.connect(studio.folder / "promptkit.db")
    try:
        return int(connection.execute("SELECT count(*) FROM leases").fetchone()[0])
    finally:
        connection.close()


@virtually
async def test_a_turn_that_is_not_used_is_the_next_ones(studio: Studio) -> None:
    """Cancelled while it waits, or refused by a cap before it was sent: nothing of the limit is lost."""
    told = Limits(requests_per_minute=60, requests_per_day=100, concurrency=4)
    models = {"m": Model("m", limits=Limits(concurrency=1))}
    catalog = Catalog({"p": Provider("p", "openai", "chat", "openai", limits=told, models=models)})
    ref = parse_ref("ad/line@1")
    call = Call(Prompt((Message(Role.USER, "hi"),), "", ref, ""), Params(max_output_tokens=10))
    with Ledger.open(studio.folder / "promptkit.db") as ledger:
        limiter = RateLimiters(catalog, ledger, {}, studio.now).get(Target("p", "m"))
        assert limiter is not None
        for _ in range(3):
            permit = await limiter.acquire(call)
            assert permit is not None
            limiter.release(permit, Completion("t", Finish.STOP, None))
        last, behind = (asyncio.create_task(limiter.acquire(call)) for _ in range(2))
        await asyncio.sleep(0.1)
        behind.cancel()
        await asyncio.sleep(0)
        last.cancel()
        await asyncio.gather(last, behind, return_exceptions=True)
        began_s = studio.now()
        for _ in range(3):
            permit = await limiter.acquire(call)
            assert permit is not None
            limiter.release(permit, None)
        assert studio.now() - began_s < 1.9
    assert _leased_today(studio) == 4
