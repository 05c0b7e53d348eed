"""Jobs under way: stops, readers that are slow or leave, memory."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
import sys
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import pytest
import studio as studio_module
from studio import ALL, REF, THREE, Studio, assert_books_agree, attempts_of, brands, run_all

from promptkit.batch.input import FileSource
from promptkit.errors import AllTargetsFailed, BudgetStop, LedgerError, LockHeld, NoUsableKey
from promptkit.ledger.records import RowState
from promptkit.simulator.server import Simulator
from promptkit.types import AttemptState, Status

MEMORY = Path(studio_module.__file__).with_name("studio_memory.py")


async def test_a_budget_stop_leaves_rows_pending(studio: Studio) -> None:
    """A cap that is reached ends the job with its rows waiting; raised, the job goes on with them."""
    async with studio.kit() as kit:
        small = kit.batch(REF, brands(30), job="night", budget_usd=Decimal("0.001"))
        with pytest.raises(BudgetStop, match="this job has no room left"):
            await run_all(small)
        report = await small.report()
        assert 0 < report.rows[RowState.OK] < 30
        assert report.pending == 30 - report.rows[RowState.OK]
        assert report.failed == 0
        assert report.money.charged_pico <= 10**9
        results = await run_all(kit.batch(REF, brands(30), job="night", budget_usd=Decimal("0.01")))
        assert [result.status for result in results] == [Status.OK] * 30
        assert studio.asked() == 30
        assert_books_agree(await kit.session.ledger(), studio)


@pytest.mark.parametrize("fault", ["http.401", "http.402", "http.404"])
async def test_a_route_without_targets_stops_the_job(studio: Studio, fault: str) -> None:
    """Where no target can be asked any more, the job stops with its rows waiting; mended, it goes on."""
    studio.sim.script(
        [
            {"fault": fault, "after": 4 if provider == "openai" else 0, "provider": provider}
            for provider in ("openai", "anthropic", "gemini")
        ]
    )
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(12), job="night", concurrency=4)
        with pytest.raises((AllTargetsFailed, NoUsableKey)):
            await run_all(job)
        report = await job.report()
        assert report.rows == {RowState.OK: 4, RowState.PENDING: 8}
        asked = studio.asked()
        assert asked <= 4 + 4 * 3
    studio.sim.script([])
    async with studio.kit() as kit:
        for provider in THREE:  # what `providers reset` does
            await (await kit.session.ledger()).shared.reset_circuits(provider)
        assert len(await run_all(kit.batch(REF, brands(12), job="night"))) == 12
        assert studio.asked() == asked + 8
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_row_that_only_one_target_could_answer_stops_nothing(studio: Studio) -> None:
    """A row that is refused by the one target that works fails alone, however dead the others are."""
    studio.configure(targets=ALL[:2], route='on_content = "next"')
    studio.sim.script(
        [{"fault": "reply.refusal", "provider": "openai", "times": 1}, "anthropic.unauthorized"]
    )
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, brands(4), job="night", concurrency=1))
        assert [result.status for result in results] == [Status.FAILED, *[Status.OK] * 3]


@pytest.mark.virtual_time
async def test_throttled_everywhere_stops_the_job(studio: Studio) -> None:
    """Where every target asks for more time than the route has patience, the rows wait, and the error says until when."""
    studio.configure(route="max_wait_s = 0.05")
    studio.sim.script([{"fault": "http.429", "retry_after_s": 900}])
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(5), job="night", concurrency=1)
        with pytest.raises(AllTargetsFailed, match="available again at"):
            await run_all(job)
        assert (await job.report()).rows == {RowState.PENDING: 5}


@pytest.mark.virtual_time
async def test_halt(studio: Studio) -> None:
    """After halt no new row is sent; what is in flight is awaited, recorded and yielded."""
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.2}])
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(20), job="night", concurrency=3)
        seen = 0
        async for result in job:
            seen += 1
            job.halt()
            assert result.status is Status.OK
        assert 3 <= seen == studio.asked() <= 6
        report = await job.report()
        assert report.rows == {RowState.OK: seen, RowState.PENDING: 20 - seen}
        studio.sim.script([])
        assert len(await run_all(kit.batch(REF, brands(20), job="night"))) == 20


async def test_a_job_halted_before_it_runs_sends_nothing(studio: Studio) -> None:
    """Halting comes before iterating, too; iterated once more, the job goes on."""
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(3), job="night")
        job.halt()
        assert await run_all(job) == []
        assert studio.asked() == 0
        assert len(await run_all(job)) == 3


@pytest.mark.virtual_time
async def test_a_slow_reader_slows_the_rows_down(studio: Studio) -> None:
    """Rows are sent as results are read: at most so many wait as are under way at once."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(60), concurrency=4)
        async with job, aclosing(job.results()) as results:
            await anext(results)
            await asyncio.sleep(0.5)
            # One read, four in the queue, four that wait for room in it.
            assert studio.asked() <= 9
            rest = [result async for result in results]
        assert len(rest) == 59


@pytest.mark.virtual_time
async def test_a_reader_who_leaves_loses_nothing(studio: Studio) -> None:
    """Breaking out of the results sends no new row; what is in flight is awaited and recorded, and nothing is unknown."""
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.2}])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(40), concurrency=8)
        async with job, aclosing(job.results()) as results:
            async for _ in results:
                break
        ledger = await kit.session.ledger()
        assert {attempt.state for attempt in attempts_of(ledger)} == {AttemptState.OK}
        assert 8 <= ledger.jobs.row_counts(job.record.id)[RowState.OK] == studio.asked() < 40
        assert_books_agree(ledger, studio)
        studio.sim.script([])
        assert len(await run_all(studio.job(kit, brands(40)))) == 40
        assert studio.asked() == 40


async def test_a_ledger_that_fails_stops_the_job(studio: Studio) -> None:
    """Where the books can't be written any more, no further row is sent, and the error says why."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(40), concurrency=4)
        async with job, aclosing(job.results()) as results:
            await anext(results)
            asked = studio.asked()
            (await kit.session.ledger()).close()
            with pytest.raises(LedgerError, match="closed"):
                async for _ in results:
                    pass
        assert studio.asked() <= asked + 8


async def test_a_job_without_a_key_has_stored_results_still(studio: Studio) -> None:
    """Stored results come first; that no key is there is said when a row is to be sent."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(3), limit=2))
    (studio.folder / ".env").write_text("")
    async with studio.kit() as kit:
        results = aiter(kit.batch(REF, brands(3), job="night"))
        assert [(await anext(results)).number for _ in range(2)] == [1, 2]
        with pytest.raises(NoUsableKey):
            await anext(results)
        assert len(await run_all(studio.job(kit, brands(2), limit=0))) == 2


async def test_rows_from_standard_input(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads standard input once; the same rows again are known by their content."""
    async with studio.kit() as kit:
        for _ in range(2):
            stdin = io.TextIOWrapper(io.BytesIO(b"brand\nA\nB\n"))
            monkeypatch.setattr(sys, "stdin", stdin)
            assert len(await run_all(kit.batch(REF, "-", job="night"))) == 2
        [job] = (await kit.session.ledger()).jobs.newest()
        assert job.ingest == 2
    assert studio.asked() == 2


async def test_rows_that_a_script_makes_as_it_goes(studio: Studio) -> None:
    """Rows may come from a generator; all are taken in before the first call."""
    drawn = 0

    def rows() -> object:
        nonlocal drawn
        for row in brands(700):
            drawn += 1
            yield row

    async with studio.kit() as kit:
        job = studio.job(kit, rows(), limit=1)
        async with job:
            assert (drawn, studio.asked()) == (700, 0)
            assert len([result async for result in job.results()]) == 1


async def test_memory_stays_flat(studio: Studio) -> None:
    """Ten times the rows take no more memory: they are streamed in, paged out and forgotten."""
    async with Simulator(seed=7, strict=False) as sim:
        studio.sim = sim
        studio.configure(targets=ALL[:1])
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(MEMORY), str(studio.folder), "2000", "20000", stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
    small, large = map(int, out.split())
    assert large - small < 12 * 1024, f"{small} KiB after 2,000 rows, {large} KiB after 20,000"


async def test_two_kits_start_one_job(studio: Studio) -> None:
    """Two that start the same new job at once agree on one; whoever holds its lock runs it, the other is refused."""
    async with studio.kit() as one, studio.kit() as other:
        await asyncio.gather(one.session.engine(), other.session.engine())
        jobs = [kit.batch(REF, brands(2), job="night") for kit in (one, other)]
        ended = await asyncio.gather(*map(run_all, jobs), return_exceptions=True)
        refused = [end for end in ended if isinstance(end, BaseException)]
        assert all(isinstance(end, LockHeld) for end in refused)
        assert len(refused) < 2
        assert len((await one.session.ledger()).jobs.newest()) == 1
    assert studio.asked() == 2


async def test_two_processes_start_one_job(studio: Studio) -> None:
    """Two processes that start the same new job at once: one runs it, the other is refused or finds it done."""
    worker = Path(studio_module.__file__).with_name("studio_worker.py")
    told = (sys.executable, str(worker), str(studio.folder), "night", "0", "10", "4")
    both = [await asyncio.create_subprocess_exec(*told, stdout=-1, stderr=-1) for _ in range(2)]
    ended = [await each.communicate() for each in both]
    assert studio.asked() == 10
    assert any(out.count(b" ok\n") == 10 for out, _ in ended)
    assert all(out.count(b" ok\n") == 10 or b"LockHeld" in err for out, err in ended)


async def test_what_a_job_tells_of_itself(studio: Studio) -> None:
    """A report counts the rows; a job that has not begun has nothing to tell."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(3), limit=1)
        with pytest.raises(AssertionError, match="not started"):
            _ = job.record
        await run_all(job)
        report = await job.report()
        assert (report.name, report.template, report.total, report.pending) == ("night", "ad/line@1", 3, 2)


def test_how_a_file_is_written(tmp_path: Path) -> None:
    """A reading tells delimiter and encoding, and whether the file looks as Excel writes it, for the output to follow."""
    path = tmp_path / "rows.csv"
    path.write_bytes("marque;prix\nCafé;3\n".encode("cp1252"))
    reading = FileSource(str(path), None).read()
    assert [dict(record.cells) for record in reading] == [{"marque": "Café", "prix": "3"}]
    assert (reading.dialect.delimiter, reading.encoding, reading.dialect.excel) == (";", "cp1252", True)
    assert reading.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_client_at_its_cap_holds_back_its_own_rows(studio: Studio) -> None:
    """Where one client's cap is reached, its rows wait and those of the others are made; the job says why it stopped."""
    studio.configure(tables='[budgets.tags."client=barly"]\nper_day_usd = 0.0005\n')
    rows = [{"brand": f"B{n}", "client": "barly" if n % 2 else "caro"} for n in range(40)]
    async with studio.kit() as kit:
        job = kit.batch(REF, rows, job="night", tags={"client": "@client"}, concurrency=4)
        with pytest.raises(BudgetStop, match="client=barly"):
            await run_all(job)
        ledger = await kit.session.ledger()
        done = [
            row.row.tags["client"] for row in ledger.jobs.output_rows(ledger.jobs.newest()[0].id) if row.text
        ]
        assert done.count("caro") == 20
        assert 0 < done.count("barly") < 20
        assert (await job.report()).pending == 20 - done.count("barly")
        assert_books_agree(ledger, studio)
