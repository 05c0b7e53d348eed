"""Jobs that are started again: what they pin, and which rows they send."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from studio import ALL, LINE, OPENAI, REF, Studio, assert_books_agree, brands, run_all, texts

from promptkit import AsyncPromptKit
from promptkit.errors import InputError, JobConflict, LockHeld, TemplateNotFound, UsageError, VariableError
from promptkit.ledger.records import JobState, RowState
from promptkit.types import RowResult, Status

NEWER = LINE.replace("You write one line.", "You write one line, in capitals.")


def csv(studio: Studio, text: str, name: str = "rows.csv") -> Path:
    path = studio.folder / name
    path.write_text(text)
    return path


async def version(kit: AsyncPromptKit, results: list[RowResult]) -> set[str]:
    ledger = await kit.session.ledger()
    calls = [ledger.calls.get(result.call) for result in results if result.call]
    return {call.template_ref for call in calls if call is not None}


# --------------------------------------------------------------------------- pinning


async def test_a_job_pins_its_version(studio: Studio) -> None:
    """A version that was published since the job's first start is ignored, and said."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(4), limit=2))
    studio.publish(NEWER)
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, brands(4), job="night"))
        assert await version(kit, results) == {"ad/line@1"}
        fresh = await run_all(kit.batch(REF, brands(1), job="another"))
        assert await version(kit, fresh) == {"ad/line@2"}
    assert [text for text in studio.said if "continues with ad/line@1" in text and "ad/line@2" in text]


@pytest.mark.parametrize(("wrong", "key"), [("", None), ("marque\nBarly\n", None), ("brand\nBarly\n", "sku")])
async def test_rows_that_cannot_be_taken_in_leave_no_job(studio: Studio, wrong: str, key: str | None) -> None:
    """A first start that fails on its input pins nothing: the corrected command begins with what stands then."""
    async with studio.kit() as kit:
        with pytest.raises((InputError, VariableError)):
            await run_all(kit.batch(REF, csv(studio, wrong), job="night", key=key))
        assert (await kit.session.ledger()).jobs.get("night") is None
    studio.publish(NEWER)
    async with studio.kit() as kit:
        rows = csv(studio, "brand\nBarly\nKlim\n")
        results = await run_all(kit.batch(REF, rows, job="night", key="brand"))
        assert await version(kit, results) == {"ad/line@2"}


async def test_rows_that_cannot_be_taken_in_again_leave_the_job(studio: Studio) -> None:
    """What was paid outlives an input that is broken later."""
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, csv(studio, "brand\nBarly\nKlim\n"), job="night"))
        with pytest.raises(InputError):
            await run_all(kit.batch(REF, csv(studio, ""), job="night"))
        asked = studio.asked()
        assert len(await run_all(kit.batch(REF, csv(studio, "brand\nBarly\nKlim\n"), job="night"))) == 2
    assert studio.asked() == asked


async def test_a_job_goes_on_though_its_template_is_gone(studio: Studio) -> None:
    """What a job pinned is in the ledger: a template that was deleted or broken since stops no night."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(4), limit=2))
    for file in (studio.folder / "templates/ad/line").iterdir():
        file.unlink()
    async with studio.kit() as kit:
        assert len(await run_all(kit.batch(REF, brands(4), job="night"))) == 4
        with pytest.raises(TemplateNotFound):
            await run_all(kit.batch(REF, brands(4), job="fresh"))
    assert [text for text in studio.said if "can't be used now" in text]


async def test_a_draft_is_pinned_as_it_was(studio: Studio) -> None:
    """A job on a draft goes on with the draft as it was, however it is edited meanwhile."""
    draft = studio.folder / "templates/ad/line/draft.jinja"
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(2), ref=f"{REF}@draft", limit=1))
        draft.write_text(NEWER)
    async with studio.kit() as kit:
        await run_all(kit.batch(f"{REF}@draft", brands(2), job="night"))
    assert [text for text in studio.said if "ad/line@draft has changed since" in text]
    bodies = [str(note["body"]) for note in studio.sim.requests(bodies=True)]
    assert len(bodies) == 2
    assert not any("capitals" in body for body in bodies)


async def test_a_route_is_pinned(studio: Studio) -> None:
    """Another route than the one the job began with is told and ignored."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(2), limit=1, targets=[ALL[1]]))
        results = await run_all(kit.batch(REF, brands(2), job="night", targets=[OPENAI]))
    assert [str(result.target) for result in results] == [ALL[1]] * 2
    assert [text for text in studio.said if "the route it began with" in text]


async def test_a_route_of_every_setting_is_pinned(studio: Studio) -> None:
    """Patience, attempts, last resort, content rule and output limit come back as they were."""
    studio.configure(
        route=f'attempts = 4\nmax_wait_s = 7.5\nlast_resort = "{ALL[2]}"\non_content = "next"\nmax_output_tokens = 99',
        targets=ALL[:2],
    )
    async with studio.kit() as kit:
        job = studio.job(kit, brands(2), limit=1)
        await run_all(job)
        again = studio.job(kit, brands(2))
        await run_all(again)
        assert again.pinned.route == job.pinned.route == kit.session.settings.routes["default"]
    assert not studio.said


async def test_a_name_belongs_to_its_template(studio: Studio) -> None:
    """Another template under the same name is a conflict, before anything is sent."""
    studio.publish(LINE, "ad/other")
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, brands(1), job="night"))
        with pytest.raises(JobConflict, match="makes ad/line, not ad/other"):
            await run_all(kit.batch("ad/other", brands(1), job="night"))
    assert studio.asked() == 1


async def test_a_job_keeps_its_key_column(studio: Studio) -> None:
    """Rows named otherwise would all be new ones, and paid again: a conflict."""
    rows = [{"brand": "Barly", "sku": "1"}]
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, rows, job="night", key="sku"))
        with pytest.raises(JobConflict, match="the column 'sku'"):
            await run_all(kit.batch(REF, rows, job="night"))


async def test_rows_in_memory_need_a_name(studio: Studio) -> None:
    """Mappings have no file to derive the job's name from."""
    async with studio.kit() as kit:
        with pytest.raises(UsageError, match="need a name"):
            await run_all(kit.batch(REF, brands(1)))


async def test_a_file_names_its_job(studio: Studio) -> None:
    """Without a name the job goes by template, rows file and output file: the same command goes on."""
    path = csv(studio, "brand\nBarly\nCaro\n")
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, path))
        await run_all(kit.batch(REF, str(path)))
        assert studio.asked() == 2
        [job] = (await kit.session.ledger()).jobs.newest()
        assert job.name.startswith("line-rows-")


# ---------------------------------------------------------------------------- resume


async def test_an_edited_input_sends_only_what_is_new(studio: Studio) -> None:
    """However the input was edited, reordered, shortened or extended: only rows that weren't paid are sent."""
    async with studio.kit() as kit:
        first = await run_all(kit.batch(REF, csv(studio, "brand\nA\nB\nC\nD\n"), job="night"))
        edited = csv(studio, "brand\nD\nB\nX\nA\nA\n")
        again = await run_all(kit.batch(REF, edited, job="night"))
        assert studio.asked() == 6
        text = dict(zip("ABCD", texts(first), strict=True))
        assert texts(again)[:2] == [text["D"], text["B"]]
        assert texts(again)[3] == text["A"]
        assert_books_agree(await kit.session.ledger(), studio)


async def test_generations_of_a_key(studio: Studio) -> None:
    """With --key, other content under a key is a new generation, sent again; the old content coming back isn't."""
    async with studio.kit() as kit:

        def rows(brand: str) -> list[Mapping[str, object]]:
            return [{"sku": 7, "brand": brand}, {"sku": 8, "brand": "same"}]

        made = [
            await run_all(kit.batch(REF, rows(brand), job="night", key="sku")) for brand in ("A", "B", "A")
        ]
        assert studio.asked() == 3
        assert texts(made[0]) == texts(made[2])
        assert texts(made[1])[1] == texts(made[0])[1]


async def test_a_reading_that_breaks_off_hides_no_row(studio: Studio) -> None:
    """A table that was broken since is an error; the rows that were made stay to be seen and written out."""
    path = csv(studio, '{"brand": "A"}\n{"brand": "B"}\n{"brand": "C"}\n', "rows.jsonl")
    async with studio.kit() as kit:
        made = texts(await run_all(studio.job(kit, path)))
        for broken in ('{"brand": "B"}\n{"brand', '{"brand'):
            path.write_text(broken)
            with pytest.raises(InputError):
                await run_all(studio.job(kit, path))
            ledger = await kit.session.ledger()
            record = ledger.jobs.get("night")
            assert record is not None
            assert ledger.jobs.row_counts(record.id) == {RowState.OK: 3}
            assert sorted(row.text or "" for row in ledger.jobs.output_rows(record.id)) == sorted(
                map(str, made)
            )
        path.write_text('{"brand": "C"}\n{"brand": "D"}\n')
        again = await run_all(studio.job(kit, path))
        assert texts(again)[0] == made[2]
        assert len(again) == 2
        assert ledger.jobs.row_counts(record.id) == {RowState.OK: 2}
        assert studio.asked() == 4


async def test_the_same_file_is_not_read_again(studio: Studio) -> None:
    """A second start on the same file finds its rows, columns and digest in the ledger."""
    path = csv(studio, '{"brand": "A", "x": 1}\n{"brand": "B", "y": 2}\n', "rows.jsonl")
    async with studio.kit() as kit:
        first = studio.job(kit, path)
        await run_all(first)
        assert first.reading is not None
        assert first.record.columns == ("brand", "x", "y")
        second = studio.job(kit, path)
        await run_all(second)
        assert second.reading is None
        assert (second.record.ingest, second.record.columns) == (1, ("brand", "x", "y"))


@pytest.mark.parametrize(
    "options",
    [{"constants": {"angle": "problem"}}, {"mapping": {"brand": "name"}}, {"tags": {"client": "x"}}],
)
async def test_other_options_make_other_rows_of_the_same_file(
    studio: Studio, options: dict[str, Any]
) -> None:
    """Another -v, --map or --tag on the same file is not ignored: the file is read again."""
    path = csv(studio, "brand,name\nA,B\n")
    async with studio.kit() as kit:
        await run_all(studio.job(kit, path))
        [result] = await run_all(studio.job(kit, path, **options))
        call = (await kit.session.ledger()).calls.get(result.call or 0)
        assert call is not None
        told = {
            "angle": {"brand": "A", "angle": "problem"},
            "brand": {"brand": "B"},
            "client": {"brand": "A"},
        }
        [name] = next(iter(options.values()))
        assert call.variables == told[name]
    assert studio.asked() == (1 if "tags" in options else 2)


async def test_a_passthrough_cell_is_as_in_the_file_now(studio: Studio) -> None:
    """A column that only passes through may be edited: the row stays paid, its output is up to date."""
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, csv(studio, "brand,note\nA,old\n"), job="night"))
        [result] = await run_all(kit.batch(REF, csv(studio, "brand,note\nA,new\n"), job="night"))
        assert result.cells == {"brand": "A", "note": "new"}
    assert studio.asked() == 1


async def test_invalid_rows_are_kept_with_their_reasons(studio: Studio) -> None:
    """A row that the template can't take is a failed result with its reason and line, and is never sent."""
    path = csv(studio, "brand,angle\nA,proof\n,proof\nC,nonsense\n")
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, path, job="night"))
        assert [result.status for result in results] == [Status.OK, Status.FAILED, Status.FAILED]
        assert "brand" in (results[1].error or "")
        assert "nonsense" in (results[2].error or "")
        ledger = await kit.session.ledger()
        assert ledger.jobs.row_counts(ledger.jobs.newest()[0].id) == {RowState.OK: 1, RowState.INVALID: 2}
    assert studio.asked() == 1
    assert [text for text in studio.said if "rows.csv:3" in text and "row 2 is invalid" in text]


async def test_a_row_with_cells_too_many_fails_alone(studio: Studio) -> None:
    """An unquoted comma costs its own row and no other; with `strict` nothing begins."""
    path = csv(studio, "brand,angle\nA,proof\nB, Inc.,proof\nC,problem\n")
    async with studio.kit() as kit:
        with pytest.raises(InputError, match="3 cells"):
            await run_all(kit.batch(REF, path, job="strict", strict=True))
        results = await run_all(kit.batch(REF, path, job="night"))
    assert [result.status for result in results] == [Status.OK, Status.FAILED, Status.OK]
    assert "put quotes around" in (results[1].error or "")
    assert studio.asked() == 2


async def test_many_odd_rows_are_told_as_a_number(studio: Studio) -> None:
    """Five rows are told one by one, then how many there are in all."""
    path = csv(studio, "brand,angle,café\n" + "A,bad,dÃ©jÃ  vu\n" * 7)
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, path, job="night"))
    told = "\n".join(studio.said)
    assert told.count(" is invalid: ") == 5
    assert "7 rows are invalid" in told
    assert told.count("looks encoded twice") == 5
    assert "7 rows look encoded twice" in told
    assert "pass through: café" in told


async def test_strict_refuses(studio: Studio) -> None:
    """With --strict a row that doesn't fit, or a column that fills nothing, refuses the whole input."""
    async with studio.kit() as kit:
        with pytest.raises(InputError, match="brand") as caught:
            await run_all(studio.job(kit, csv(studio, "brand,angle\nA,proof\n,proof\n"), strict=True))
        assert caught.value.line == 3
        with pytest.raises(InputError, match="note"):
            await run_all(studio.job(kit, csv(studio, "brand,note\nA,x\n"), strict=True))
    assert studio.asked() == 0


async def test_an_input_that_broke_off_is_read_again(studio: Studio) -> None:
    """Where the table breaks in the middle nothing is sent; mended, the job goes on."""
    async with studio.kit() as kit:
        with pytest.raises(InputError):
            await run_all(kit.batch(REF, csv(studio, 'brand\nA\n"B\n'), job="night"))
        assert studio.asked() == 0
        assert len(await run_all(kit.batch(REF, csv(studio, 'brand\nA\n"B"\n'), job="night"))) == 2
    with pytest.raises(InputError, match="can't be read"):
        async with studio.kit() as kit:
            await run_all(kit.batch(REF, studio.folder / "none.csv", job="none"))


async def test_a_missing_column_is_said_before_anything_is_sent(studio: Studio) -> None:
    """A required variable without a column refuses the job."""
    async with studio.kit() as kit:
        with pytest.raises(VariableError, match="brand"):
            await run_all(kit.batch(REF, csv(studio, "Brnd\nA\n"), job="night"))


async def test_limit_and_retry_failed(studio: Studio) -> None:
    """--limit bounds what is sent this time; --retry-failed sends again what failed, and only that."""
    studio.configure(targets=ALL[:1])
    studio.sim.script([{"fault": "openai.bad_request", "times": 1}])
    async with studio.kit() as kit:
        first = await run_all(studio.job(kit, brands(5), limit=2, concurrency=1))
        assert [result.status for result in first] == [Status.FAILED, Status.OK]
        job = studio.job(kit, brands(5), limit=0)
        await run_all(job)
        assert ((await job.report()).pending, studio.asked()) == (3, 2)
        await run_all(studio.job(kit, brands(5)))
        assert studio.asked() == 5
        results = await run_all(studio.job(kit, brands(5), retry_failed=True))
        assert [result.status for result in results] == [Status.OK] * 5
        assert studio.asked() == 6
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_finished_job_sends_nothing(studio: Studio) -> None:
    """A finished job gives its results again and sends nothing; with more rows it is open again."""
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, brands(2), job="night"))
        ledger = await kit.session.ledger()
        done = ledger.jobs.get("night")
        assert done is not None
        assert done.state is JobState.DONE
        assert len(await run_all(kit.batch(REF, brands(2), job="night"))) == 2
        assert studio.asked() == 2
        await run_all(studio.job(kit, brands(4), limit=1))
        opened = ledger.jobs.get("night")
        assert opened is not None
        assert (opened.state, opened.ended_us) == (JobState.OPEN, None)


async def test_a_job_runs_once_at_a_time(studio: Studio) -> None:
    """While one process runs a job, another is refused; when that one ends, it may go on."""
    async with studio.kit() as kit, studio.kit() as other:
        results = aiter(kit.batch(REF, brands(3), job="night"))
        await anext(results)
        with pytest.raises(LockHeld, match="night"):
            await run_all(other.batch(REF, brands(3), job="night"))
        assert [result.status async for result in results] == [Status.OK] * 2
        assert len(await run_all(other.batch(REF, brands(3), job="night"))) == 3
    assert studio.asked() == 3


async def test_stored_results_come_first(studio: Studio) -> None:
    """Iterating a job that goes on yields what the ledger has, in order, then the new ones."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(6), limit=3))
        numbers = [result.number async for result in kit.batch(REF, brands(6), job="night", concurrency=2)]
        assert numbers[:3] == [1, 2, 3]
        assert sorted(numbers[3:]) == [4, 5, 6]
        job = studio.job(kit, brands(8))
        async with job:
            fresh = [result.number async for result in job.results(stored=False)]
        assert sorted(fresh) == [7, 8]


async def test_tags_and_columns_reach_the_books(studio: Studio) -> None:
    """A row's own tags come from its columns; the deliverable is one of them."""
    rows = [{"brand": "A", "client": "barly", "what": "d1"}, {"brand": "B", "client": "", "what": "d2"}]
    async with studio.kit() as kit:
        tags = {"client": "@client", "deliverable": "@what", "campaign": "spring"}
        results = await run_all(kit.batch(REF, rows, job="night", tags=tags))
        ledger = await kit.session.ledger()
        calls = [ledger.calls.get(result.call or 0) for result in results]
        assert [(call.tags, call.deliverable) for call in calls if call] == [
            ({"client": "barly", "deliverable": "d1", "campaign": "spring"}, "d1"),
            ({"deliverable": "d2", "campaign": "spring"}, "d2"),
        ]


async def test_a_row_that_no_longer_renders_fails_alone(studio: Studio) -> None:
    """A row whose stored values make no prompt is that row's failure, not the job's."""
    studio.publish(
        LINE.replace("{{ angle }}.", "{{ angle }}{{ 'x' * (9000000 if brand == 'Brand 1' else 1) }}.")
    )
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, brands(3), job="night"))
        assert [result.status for result in results] == [Status.OK, Status.FAILED, Status.OK]
        assert results[1].error
    connection = sqlite3.connect(studio.folder / "promptkit.db")
    assert connection.execute(
        "SELECT count(*) FROM rows WHERE state = 'failed' AND call_id IS NULL"
    ).fetchone() == (1,)
    connection.close()


# ------------------------------------------------------------------- rows that are made


async def test_rows_of_an_iterator_are_read_once(studio: Studio) -> None:
    """An iterator that was read has no rows left: going on with it is refused, and loses none of the first time's."""
    async with studio.kit() as kit:
        job = kit.batch(REF, (row for row in brands(2)), job="night")
        assert len(await run_all(job)) == 2
        with pytest.raises(InputError, match="read before"):
            await run_all(job)
        assert len(await run_all(kit.batch(REF, brands(2), job="night"))) == 2


async def test_a_script_makes_rows_of_constants_and_each(studio: Studio) -> None:
    """`variables` and `each` do what -v and --each do; in another order, the rows keep their names."""
    async with studio.kit() as kit:
        first = kit.batch(REF, job="night", variables={"brand": "B"}, each={"angle": ["problem", "proof"]})
        assert [result.cells["angle"] for result in await run_all(first)] == ["problem", "proof"]
        again = kit.batch(REF, job="night", each={"angle": ["proof", "problem"]}, variables={"brand": "B"})
        assert [result.cells["angle"] for result in await run_all(again)] == ["proof", "problem"]
        assert studio.asked() == 2
        with pytest.raises(UsageError, match="no rows"):
            kit.batch(REF, job="none")
