"""Jobs and rows: pinned once, read again, paged in order."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_making import SOURCE, attempt_end, attempt_start, call_end, call_start, job_start, row_start

from promptkit.errors import InputError, LockHeld
from promptkit.ledger import jobs
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import (
    Ingested,
    InputRead,
    JobRecord,
    JobState,
    LogFilter,
    Money,
    RowEnd,
    RowRecord,
    RowStart,
    RowState,
)
from promptkit.types import Finish, Status


async def make(ledger: Ledger, count: int = 3) -> JobRecord:
    job = await ledger.jobs.create_or_get(job_start())
    await ledger.jobs.ingest(job.id, map(row_start, range(count)), lambda: InputRead(sha256="d" * 64))
    return job


async def pay(ledger: Ledger, job: JobRecord, row: RowRecord, text: str = "A script.") -> None:
    call = call_start(job_id=job.id, row_id=row.id)
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (), call)
    await ledger.calls.finish(
        attempt_end(attempt), call_end(call, text), RowEnd(row.id, Status.OK, 3_000, call.id)
    )


async def test_a_job_pins_what_it_starts_with(ledger: Ledger) -> None:
    """The name belongs to what was pinned first; the same name again returns that."""
    first = await ledger.jobs.create_or_get(job_start(schema={"type": "object"}, key_column="sku"))
    again = await ledger.jobs.create_or_get(job_start(route="other"))
    assert again == first == ledger.jobs.get("night")
    assert (first.route, first.params, first.schema, first.columns) == (
        "default",
        {"max_output_tokens": 600},
        {"type": "object"},
        ("sku", "brand"),
    )
    assert (first.state, first.ingested_us, first.ended_us) == (JobState.OPEN, None, None)
    assert ledger.jobs.get("other") is None
    later = await ledger.jobs.create_or_get(job_start("later", created_us=2_000))
    assert ledger.jobs.newest() == (later, first)


async def test_a_job_ends_and_opens_again(ledger: Ledger) -> None:
    """A job's state, end and note are kept; opening it again clears the end."""
    job = await make(ledger)
    await ledger.jobs.set_state(job.id, JobState.CANCELLED, "by hand")
    ended = ledger.jobs.get(job.name)
    assert ended is not None
    assert (ended.state, ended.ended_us, ended.note) == (JobState.CANCELLED, 5_000, "by hand")
    await ledger.jobs.set_state(job.id, JobState.OPEN)
    opened = ledger.jobs.get(job.name)
    assert opened is not None
    assert (opened.state, opened.ended_us, opened.note) == (JobState.OPEN, None, None)


async def test_a_running_job_is_locked(ledger: Ledger) -> None:
    """A job runs once at a time, in one process or in two."""
    job = await make(ledger)
    with ledger.jobs.lock(job), pytest.raises(LockHeld, match="night"):
        ledger.jobs.lock(job)
    ledger.jobs.lock(job).release()


async def test_rows_are_paged_and_end_with_their_calls(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pending rows come in pages by position; a row that is paid for is pending no more."""
    job = await make(ledger, 5)
    monkeypatch.setattr(jobs, "_ROWS_PER_PAGE", 2)
    rows = ledger.jobs.pending_rows(job.id)
    first = list(islice(rows, 2))
    assert [row.key for row in first] == ["sku-0", "sku-1"]
    assert (first[0].variables, first[0].line, first[0].tags) == ({"brand": "brand 0"}, 2, {})
    for row in first:
        await pay(ledger, job, row)
    assert [row.key for row in islice(rows, 2)] == ["sku-2", "sku-3"]
    assert [row.key for row in ledger.jobs.pending_rows(job.id)] == ["sku-2", "sku-3", "sku-4"]
    assert ledger.jobs.row_counts(job.id) == {RowState.OK: 2, RowState.PENDING: 3}
    assert ledger.reports.spent_by_job(job.id) == Money(1_200, 1_200, 0, 2)
    assert len(ledger.calls.search(where=LogFilter(job="night", key="sku-1"))) == 1


async def test_rows_come_out_in_input_order_with_what_became_of_them(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is the input's rows in its order; money covers every call that a row took."""
    job = await ledger.jobs.create_or_get(job_start())
    rows = [
        row_start(0, passthrough={"note": "x"}, tags={"client": "barly"}, deliverable="d", canary=True),
        row_start(1, error="brand is missing", variables=None),
        row_start(2),
    ]
    assert await ledger.jobs.ingest(job.id, rows) == Ingested(new=3, invalid=1)
    one, two = ledger.jobs.pending_rows(job.id)
    failed = call_start(job_id=job.id, row_id=one.id)
    attempt = attempt_start(failed.id)
    await ledger.calls.begin(attempt, (), failed)
    await ledger.calls.finish(attempt_end(attempt, 5), call_end(failed, None, status=Status.FAILED))
    await pay(ledger, job, one, "First.")
    await ledger.jobs.end_row(RowEnd(two.id, Status.FAILED, 3_000, error="no key"))
    out = list(ledger.jobs.output_rows(job.id))
    assert [(row.row.key, row.row.state, row.text, row.error) for row in out] == [
        ("sku-0", RowState.OK, "First.", None),
        ("sku-1", RowState.INVALID, None, "brand is missing"),
        ("sku-2", RowState.FAILED, None, "no key"),
    ]
    done = out[0]
    assert (done.status, done.finish, done.template_ref) == (Status.OK, Finish.STOP, "ugc/script@2")
    assert (done.input_tokens, done.output_tokens, done.money) == (100, 50, Money(605, 605, 0, 2))
    assert (done.row.passthrough, done.row.tags, done.row.deliverable, done.row.canary) == (
        {"note": "x"},
        {"client": "barly"},
        "d",
        True,
    )
    assert (out[2].target, out[2].status, out[2].input_tokens) == (None, None, None)
    monkeypatch.setattr(jobs, "_ROWS_PER_PAGE", 2)
    assert list(ledger.jobs.output_rows(job.id)) == out
    assert await ledger.jobs.reset_rows(job.id, [RowState.FAILED]) == 1
    assert [row.error for row in ledger.jobs.pending_rows(job.id)] == [None]


async def test_an_edited_input_goes_on_rightly(ledger: Ledger) -> None:
    """Rows paid for stay paid when the input is reordered, extended or shortened; changed ones are sent again."""
    job = await make(ledger, 3)
    for row in ledger.jobs.pending_rows(job.id):
        await pay(ledger, job, row, f"text of {row.key}")
    edited = [
        replace(row_start(2), position=0),
        replace(row_start(0, "another brand"), position=1),
        replace(row_start(7), position=2),
    ]
    assert await ledger.jobs.ingest(job.id, edited, lambda: InputRead(("sku",), "e" * 64)) == Ingested(
        1, 1, 1
    )
    assert [(row.key, row.generation) for row in ledger.jobs.pending_rows(job.id)] == [
        ("sku-0", 1),
        ("sku-7", 0),
    ]
    assert [(row.row.key, row.text) for row in ledger.jobs.output_rows(job.id)] == [
        ("sku-2", "text of sku-2"),
        ("sku-0", None),
        ("sku-7", None),
    ]
    now = ledger.jobs.get(job.name)
    assert now is not None
    assert (now.columns, now.input_sha256, now.ingested_us, now.ingest) == (("sku",), "e" * 64, 5_000, 2)
    assert await ledger.jobs.ingest(job.id, map(row_start, range(3))) == Ingested(known=3)
    assert [row.text for row in ledger.jobs.output_rows(job.id)] == [f"text of sku-{n}" for n in range(3)]


async def test_a_key_that_stands_twice_is_refused(ledger: Ledger) -> None:
    """Two rows of one input under one key and ordinal are an input error; with ordinals they are two rows."""
    job = await ledger.jobs.create_or_get(job_start())
    twice = [row_start(0), replace(row_start(0), id=row_start(0).id, position=1)]
    with pytest.raises(InputError, match="'sku-0' appears twice"):
        await ledger.jobs.ingest(job.id, twice)
    broken = ledger.jobs.get(job.name)
    assert broken is not None
    assert broken.ingested_us is None
    apart = [
        row_start(0),
        replace(row_start(0), position=1, ordinal=1, tags={"a": "b"}),
        row_start(2, tags={"a": "b"}),
    ]
    assert (await ledger.jobs.ingest(job.id, apart)).rows == 3


async def test_an_input_is_read_in_chunks(ledger: Ledger) -> None:
    """Rows are drawn from the iterable as they are written, so memory stays flat."""
    drawn = 0
    highest = 0

    async def watch(rows: int) -> Ingested:
        nonlocal drawn, highest

        def source() -> list[RowStart]:
            return [row_start(number) for number in range(rows)]

        def draw() -> object:
            nonlocal drawn, highest
            for row in source():
                drawn += 1
                highest = max(
                    highest, drawn - sum(ledger.jobs.row_counts(job.id).values()) if drawn % 500 == 0 else 0
                )
                yield row

        job = await ledger.jobs.create_or_get(job_start())
        return await ledger.jobs.ingest(job.id, draw())  # pyright: ignore[reportArgumentType]

    assert (await watch(1_700)).new == 1_700
    assert 0 < highest <= 500


_inputs = st.lists(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["a", "b"])), unique_by=lambda pair: pair[0], max_size=6
    ),
    min_size=1,
    max_size=4,
)


@given(_inputs)
@settings(max_examples=15, deadline=None)
async def test_the_newest_reading_is_what_counts(
    tmp_path_factory: pytest.TempPathFactory, inputs: list[list[tuple[int, str]]]
) -> None:
    """However an input is edited: each reading's rows come out, in its order, with its content, once each."""
    path: Path = tmp_path_factory.mktemp("jobs") / "promptkit.db"
    with Ledger.open(path) as ledger:
        await ledger.calls.store_templates([SOURCE])
        job = await ledger.jobs.create_or_get(job_start())
        for reading in inputs:
            rows = [
                replace(row_start(key, content), position=position)
                for position, (key, content) in enumerate(reading)
            ]
            await ledger.jobs.ingest(job.id, rows)
            out = [(row.row.key, row.row.variables) for row in ledger.jobs.output_rows(job.id)]
            assert out == [(f"sku-{key}", {"brand": content}) for key, content in reading]
