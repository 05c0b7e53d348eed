"""Rows of a bad version made again: a job of its own, linked to the originals."""

from __future__ import annotations

import pytest
from studio import LINE, OPENAI, REF, Studio, assert_books_agree, brands, run_all, texts

from promptkit import AsyncPromptKit
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.batch.redo import Redo, prepare
from promptkit.errors import JobConflict, UsageError
from promptkit.ledger.records import JobRecord, RowState
from promptkit.types import RowResult

BAD = LINE.replace("You write one line.", "You write nothing good.")
STRICT = LINE.replace("max_length = 200", "max_length = 7")


async def redone(
    kit: AsyncPromptKit, original: JobRecord, redo: Redo, **options: object
) -> tuple[JobRecord, list[RowResult]]:
    wanted = JobOptions(**options)  # pyright: ignore[reportArgumentType] - by name
    record = await prepare(kit.session, original, redo, wanted)
    return record, await run_all(Job.resume(kit.session, record, wanted))


async def made(studio: Studio, kit: AsyncPromptKit, ref: str = f"{REF}@2") -> JobRecord:
    """A night of four rows by a bad version, of one client."""
    job = studio.job(
        kit, brands(4), ref=ref, tags={"client": "barly", "deliverable": "@brand"}, targets=[OPENAI]
    )
    await run_all(job)
    return job.record


async def test_rows_of_a_bad_version_are_made_again_with_another(studio: Studio) -> None:
    """They have a job, an output and a cost of their own, and are linked to the originals, which stay."""
    studio.publish(BAD)
    async with studio.kit() as kit:
        original = await made(studio, kit)
        ledger = await kit.session.ledger()
        before = ledger.reports.spent_by_job(original.id)
        record, results = await redone(kit, original, Redo("@1", written_by="@2"))
        assert (record.name, record.redo_of_id, record.template_ref) == (
            "night-redo-1",
            original.id,
            f"{REF}@1",
        )
        assert [f"{result.template}" for result in results] == [f"{REF}@1"] * 4
        assert [result.cells["brand"] for result in results] == [f"Brand {number}" for number in range(4)]
        assert ledger.reports.spent_by_job(original.id) == before
        assert ledger.reports.spent_by_job(record.id).attempts == 4
        rows = {row.row.id: row.row for row in ledger.jobs.output_rows(original.id)}
        for again in ledger.jobs.output_rows(record.id):
            old = rows[again.row.redo_of_id or 0]
            assert (again.row.key, again.row.tags, again.row.deliverable) == (
                old.key,
                old.tags,
                old.deliverable,
            )
        assert ledger.jobs.redos(original.id) == ("night-redo-1",)
        assert_books_agree(ledger, studio)


async def test_the_same_redo_goes_on(studio: Studio) -> None:
    """What was made again is not made once more."""
    studio.publish(BAD)
    async with studio.kit() as kit:
        original = await made(studio, kit)
        redo = Redo("@1", written_by=f"{REF}@2")
        await redone(kit, original, redo, limit=1)
        first = await redone(kit, original, redo)
        again = await redone(kit, original, redo)
        assert studio.asked() == 4 + 4
        assert texts(again[1]) == texts(first[1])
        with pytest.raises(JobConflict, match="belongs to another job"):
            await prepare(kit.session, original, redo, JobOptions(name="night"))


async def test_a_redo_takes_only_the_rows_that_are_meant(studio: Studio) -> None:
    """By version, by how they ended, by what they were rated."""
    studio.publish(BAD)
    studio.sim.script([{"fault": "http.400", "times": 1}])
    async with studio.kit() as kit:
        original = await made(studio, kit)
        ledger = await kit.session.ledger()
        _, failed = await redone(kit, original, Redo("@1", states=(RowState.FAILED,)), name="a")
        assert len(failed) == 1
        with pytest.raises(UsageError, match="no row of job 'night' matches version ad/line@1"):
            await prepare(kit.session, original, Redo("@1", written_by="@1"), JobOptions())
        with pytest.raises(UsageError, match="rating reject"):
            await prepare(kit.session, original, Redo("@1", rejected=True), JobOptions())
        ok = [row.row.call_id for row in ledger.jobs.output_rows(original.id) if row.row.state is RowState.OK]
        await ledger.calls.rate([ok[0] or 0], "reject")
        _, rejected = await redone(kit, original, Redo("@1", rejected=True), name="b")
        assert len(rejected) == 1
        with pytest.raises(UsageError, match="makes ad/line, not ad/other"):
            await prepare(kit.session, original, Redo("ad/other@1"), JobOptions())


async def test_rows_that_no_longer_fit_fail_alone(studio: Studio) -> None:
    """The other version may declare its variables otherwise: such rows are invalid, and nothing is sent for them."""
    studio.publish(STRICT)
    async with studio.kit() as kit:
        job = studio.job(
            kit, [{"brand": "Barly"}, {"brand": "A long name"}], ref=f"{REF}@1", targets=[OPENAI]
        )
        await run_all(job)
        record, results = await redone(kit, job.record, Redo("@2"))
        ledger = await kit.session.ledger()
        assert ledger.jobs.row_counts(record.id) == {RowState.OK: 1, RowState.INVALID: 1}
        assert results[1].error is not None
        assert studio.asked() == 3


async def test_what_storage_erased_cannot_be_made_again(studio: Studio) -> None:
    """Without its variables a row can't be rendered: it is said, and nothing begins."""
    studio.configure(tables='[storage]\nvariables = "none"')
    async with studio.kit() as kit:
        job = studio.job(kit, brands(2))
        async with job:
            async for _ in job.results():
                pass
            await job.forget()
        with pytest.raises(UsageError, match="has erased the variables"):
            await prepare(kit.session, job.record, Redo("@1"), JobOptions())
