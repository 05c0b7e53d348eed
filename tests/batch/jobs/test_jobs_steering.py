"""Jobs that stop early or send less: deadline, canary, sample, cancelling."""

from __future__ import annotations

import pytest
from studio import OPENAI, Studio, assert_books_agree, brands, run_all

from promptkit.errors import StoppedEarly
from promptkit.ledger.records import JobState, RowState
from promptkit.types import OnMiss, Status

pytestmark = pytest.mark.virtual_time
BAD = {"fault": "http.400", "provider": "openai"}


async def test_a_canary_that_fails_keeps_the_rest_from_being_sent(studio: Studio) -> None:
    """Of 5 rows more than 1 fails: nothing else is sent, also by the same command; --retry-failed tries again."""
    studio.sim.script([BAD])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(40), targets=[OPENAI], canary=5, max_fail_rate=0.2, concurrency=2)
        results = await run_all(job)
        assert isinstance(job.stop, StoppedEarly)
        assert "of 5 rows" in job.stop.message
        sent = studio.asked()
        assert 2 <= sent <= 3
        assert [result.status for result in results] == [Status.FAILED] * sent
        again = studio.job(kit, brands(40), targets=[OPENAI])  # what the job had still counts
        await run_all(again)
        assert isinstance(again.stop, StoppedEarly)
        assert studio.asked() == sent
        studio.sim.script([])
        healed = studio.job(kit, brands(40), retry_failed=True, targets=[OPENAI])
        results = await run_all(healed)
        assert (healed.stop, len(results)) == (None, 40)
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_canary_that_passed_is_not_repeated(studio: Studio) -> None:
    """Its rows go alone first; once they did well, going on has no canary again."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(30), canary=3, limit=10)
        await run_all(job)
        ledger = await kit.session.ledger()
        first = [row.row.canary for row in ledger.jobs.output_rows(job.record.id)]
        assert first == [True] * 3 + [False] * 27
        again = studio.job(kit, brands(30), canary=8, max_fail_rate=0.0)
        await run_all(again)
        assert again.stop is None
        assert ledger.jobs.canary_counts(job.record.id) == {RowState.OK: 3}


async def test_a_failed_canary_can_be_done_without(studio: Studio) -> None:
    """--canary 0 sends the others, now and when the job goes on later."""
    studio.sim.script([{**BAD, "times": 2}])
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(6), targets=[OPENAI], canary=2, concurrency=1))
        assert studio.asked() == 1
        job = studio.job(kit, brands(6), targets=[OPENAI], canary=0, limit=3)
        await run_all(job)
        assert (job.stop, studio.asked()) == (None, 4)
        await run_all(studio.job(kit, brands(6), targets=[OPENAI]))
        assert studio.asked() == 6


async def test_a_sample_is_sent_and_the_rest_waits(studio: Studio) -> None:
    """The same sample goes on with the same rows; without it, the rest is done."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(20), sample=6, seed=1, limit=4, canary=2)
        await run_all(job)
        assert job.to_do == 4
        drawn = studio.job(kit, brands(20), sample=6, seed=1)
        results = await run_all(drawn)
        assert (drawn.to_do, len(results), studio.asked()) == (2, 6, 6)
        same = await run_all(studio.job(kit, brands(20), sample=6, seed=1))
        assert [result.number for result in same] == [result.number for result in results]
        assert (await drawn.report()).pending == 14
        assert len(await run_all(studio.job(kit, brands(20)))) == 20
        assert studio.asked() == 20


async def test_a_deadline_that_has_come_sends_nothing_more(studio: Studio) -> None:
    """Rows in flight finish, the rest waits; exit code 8 is what it stops with, and the job goes on later."""
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.3}])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(60), concurrency=2, deadline_s=studio.now() + 1.5)
        results = await run_all(job)
        assert isinstance(job.stop, StoppedEarly)
        assert "has passed" in job.stop.message
        assert len(results) == studio.asked() == 10  # two at 0, 0.3, 0.6, 0.9 and 1.2 s
        assert (await job.report()).pending == 60 - len(results)


async def test_a_deadline_that_wont_be_met_stops_or_hastens(studio: Studio) -> None:
    """`stop` sends nothing more; `faster` has more rows under way; `fastest` reorders; each says so."""
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.2}])
    async with studio.kit() as kit:
        job = studio.job(
            kit, brands(200), concurrency=1, deadline_s=studio.now() + 8, on_miss=OnMiss.STOP, name="a"
        )
        await run_all(job)
        assert isinstance(job.stop, StoppedEarly)
        assert "at this pace" in job.stop.message
        for on_miss, told in (
            (OnMiss.FASTER, "concurrency is now 2"),
            (OnMiss.FASTEST, "lowest latency now comes first"),
            (OnMiss.WARN, "nothing more is sent after the deadline"),
        ):
            made = studio.job(
                kit,
                brands(40),
                concurrency=1,
                deadline_s=studio.now() + 2,
                on_miss=on_miss,
                name=on_miss.value,
            )
            await run_all(made)
            assert [text for text in studio.said if told in text]


async def test_a_cancelled_job_stops_whoever_runs_it(studio: Studio) -> None:
    """The ledger says so: no new rows, those in flight are recorded."""
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.2}])
    async with studio.kit() as kit:
        ledger = await kit.session.ledger()
        job = studio.job(kit, brands(60), concurrency=2)
        async with job:
            count = 0
            async for _ in job.results():
                count += 1
                if count == 2:
                    assert await ledger.jobs.cancel(job.record.id)
        assert isinstance(job.stop, StoppedEarly)
        assert count == studio.asked() < 60
        assert ledger.jobs.state(job.record.id) is JobState.CANCELLED
