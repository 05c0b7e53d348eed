"""A batch waits out an outage, and no row is lost to one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio import ALL, REF, Studio, assert_books_agree, brands, run_all

from promptkit.batch.control import NoReply, Outages
from promptkit.errors import AllTargetsFailed
from promptkit.ledger.records import RowState
from promptkit.types import RowResult, Status

pytestmark = pytest.mark.virtual_time
DOWN = {"fault": "http.503", "times": None}


@pytest.mark.parametrize(
    ("answered_s", "now_s", "opens_s", "next_step", "resumes_s"),
    [
        (100.0, 130.0, None, NoReply.RETRY, 132.0),
        (100.0, 130.0, 160.0, NoReply.RETRY, 160.0),
        (100.0, 130.0, 90.0, NoReply.RETRY, 132.0),
        (100.0, 399.0, None, NoReply.RETRY, 401.0),
        (100.0, 400.0, None, NoReply.STOP, 0.0),
        (100.0, 130.0, 400.0, NoReply.STOP, 0.0),
    ],
)
def test_an_outage(
    answered_s: float, now_s: float, opens_s: float | None, next_step: NoReply, resumes_s: float
) -> None:
    """With no answer since the call began the run pauses, until the first target opens; it stops where that is too late."""
    outages = Outages(300.0, answered_s)
    assert outages.no_reply(1, 120.0, now_s, opens_s) is next_step
    assert outages.resumes_s == resumes_s
    assert outages.retried == (next_step is NoReply.RETRY)


def test_the_pauses_of_an_outage_double() -> None:
    """A long outage is looked at once a minute; an answer begins anew."""
    outages = Outages(10_000.0, 0.0)
    pauses: list[float] = []
    for row in range(8):
        outages.no_reply(row, 50.0, 100.0, None)
        pauses.append(outages.resumes_s - 100.0)
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    outages.reply(200.0)
    outages.no_reply(9, 250.0, 300.0, None)
    assert outages.resumes_s == 302.0


def test_a_row_that_others_overtake_has_a_second_turn() -> None:
    """Where others are answered meanwhile nothing pauses; left alone once more after that, the row has failed."""
    outages = Outages(300.0, 0.0)
    outages.reply(110.0)
    assert outages.no_reply(1, 100.0, 120.0, None) is NoReply.RETRY
    assert (outages.resumes_s, outages.retried) == (0.0, 1)
    outages.retried = 0
    assert outages.no_reply(1, 150.0, 160.0, None) is NoReply.RETRY  # nobody was answered since
    outages.retried = 0
    outages.reply(200.0)
    assert outages.no_reply(1, 210.0, 220.0, None) is NoReply.FAIL
    assert outages.retried == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 50)), max_size=40))
def test_a_run_without_answers_ends(steps: list[tuple[bool, float]]) -> None:
    """Whatever comes, a run never goes on for longer than its patience after its last answer."""
    outages, now_s, answered_s = Outages(60.0, 0.0), 0.0, 0.0
    for row, (answers, took_s) in enumerate(steps):
        began_s, now_s = now_s, now_s + took_s
        if answers:
            outages.reply(now_s)
            answered_s = now_s
            continue
        next_step = outages.no_reply(row, began_s, now_s, None)
        assert (next_step is NoReply.STOP) == (answered_s <= began_s and now_s >= answered_s + 60.0)


async def test_an_outage_of_all_is_waited_out(studio: Studio) -> None:
    """Everybody is down in the middle of a batch, and comes back: every row is made, none is sent after its reply."""
    studio.configure(route="outage_s = 60\npatience_s = 0.1\nattempts = 3")
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(12), job="night", concurrency=1)
        results: list[RowResult] = []
        async for result in job:
            results.append(result)
            if len(results) == 4:
                studio.sim.script([{**DOWN, "times": 4}])  # a call and a part of the next one
        assert [result.status for result in results] == [Status.OK] * 12
        assert {result.number for result in results} == set(range(1, 13))
        assert any("no reply from any target since" in said for said in studio.said)
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_longer_outage_stops_the_batch_with_its_rows_waiting(studio: Studio) -> None:
    """The patience of a batch ends: no row has failed, and the same command does the rest."""
    studio.configure(route="outage_s = 1\npatience_s = 0.1\nattempts = 3")
    studio.sim.script([DOWN])
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(5), job="night", concurrency=2)
        with pytest.raises(AllTargetsFailed):
            await run_all(job)
        assert (await job.report()).rows == {RowState.PENDING: 5}
    studio.sim.script([])
    async with studio.kit() as kit:
        for provider in ("openai", "anthropic", "gemini"):
            await (await kit.session.ledger()).shared.reset_circuits(provider)
        assert len(await run_all(kit.batch(REF, brands(5), job="night"))) == 5


async def test_a_row_that_nobody_can_answer_fails_alone(studio: Studio) -> None:
    """A row that breaks every server, while others are answered, has two turns and stops nothing."""
    studio.configure(targets=ALL[:1], route="outage_s = 60\npatience_s = 5\nattempts = 2")
    first = {"fault": "http.500", "after": 3, "times": 2}
    again = {"fault": "http.500", "after": 7, "times": 2}  # when the other four have been answered
    studio.sim.script([first, again])
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(8), job="night", concurrency=1)
        results = await run_all(job)
        assert {result.number: result.status for result in results if result.status is not Status.OK} == {
            4: Status.FAILED
        }
        assert len(results) == 8
        assert studio.asked() == 7 + 4
        assert (await job.report()).rows == {RowState.OK: 7, RowState.FAILED: 1}
