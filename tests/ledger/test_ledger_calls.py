"""Calls and attempts through the writer, and what the faces read of them."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from ledger_making import (
    DIGEST,
    SOURCE,
    TARGET,
    USAGE,
    attempt_end,
    attempt_start,
    call_end,
    call_start,
    new_id,
    one_call,
)

from promptkit.errors import LedgerError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import Admitted, LogFilter, Money, Refused, Settled
from promptkit.types import AttemptState, Cost, Fault, Scope, Status, Target

DAY = Scope("day:2026-11-22", 2_000)


async def test_a_call_comes_back_whole(ledger: Ledger) -> None:
    """A call, its attempts, reply, tags and template source are read back as they were written."""
    call = call_start(tags={"client": "barly"}, deliverable="d-1", parent_id=7)
    first, second = attempt_start(call.id), attempt_start(call.id, number=2)
    assert await ledger.calls.begin(first, (DAY,), call) == Admitted()
    failed = attempt_end(
        first,
        0,
        state=AttemptState.FAILED,
        fault=Fault.RATE_LIMIT,
        detail="slow down",
        usage=None,
        http_status=429,
    )
    assert await ledger.calls.finish(failed) == Settled()
    await ledger.calls.begin(second, (DAY,))
    assert not await ledger.calls.finish(attempt_end(second), call_end(call))
    found = ledger.calls.get(call.id)
    assert found is not None
    assert (found.variables, found.tags, found.deliverable, found.parent_id) == (
        {"brand": "Barly"},
        {"client": "barly"},
        "d-1",
        7,
    )
    assert (found.status, found.text, found.template_digest) == (Status.OK, "A script.", DIGEST)
    one, two = found.attempts
    assert (one.state, one.fault, one.detail, one.http_status, one.usage) == (
        AttemptState.FAILED,
        Fault.RATE_LIMIT,
        "slow down",
        429,
        None,
    )
    assert (two.target, two.usage, two.cost) == (TARGET, USAGE, Cost(600, "genai-prices 0.2.3"))
    assert found.money == Money(600, 600, 0, 2)
    assert ledger.calls.stored_source(DIGEST) == SOURCE
    assert ledger.calls.stored_source("1:sha256:none") is None
    assert ledger.calls.get(1) is None


async def test_an_open_attempt_is_on_disk_before_it_is_sent(ledger: Ledger, database: Path) -> None:
    """The attempt's row and its hold are committed when `begin` returns."""
    call = call_start()
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (DAY,), call)
    with Ledger.open(database) as other:
        found = other.calls.get(call.id)
        budget = other.reports.budget(DAY.key)
    assert found is not None
    assert found.attempts[0].state is AttemptState.OPEN
    assert found.status is None
    assert budget is not None
    assert (budget.reserved_pico, budget.spent_pico) == (1_000, 0)
    await ledger.calls.finish(attempt_end(attempt), call_end(call))


async def test_a_refused_attempt_leaves_nothing_and_its_group_stands(ledger: Ledger) -> None:
    """A refused open doesn't roll the group back: of five at once under a cap for two, two stand."""
    calls = [call_start() for _ in range(5)]
    attempts = [attempt_start(call.id) for call in calls]
    answers = await asyncio.gather(
        *(ledger.calls.begin(attempt, (DAY,), call) for attempt, call in zip(attempts, calls, strict=True))
    )
    assert [type(answer) for answer in answers] == [Admitted, Admitted, Refused, Refused, Refused]
    refused = answers[2]
    assert isinstance(refused, Refused)
    assert (refused.scope_key, refused.reserved_pico, refused.may_free) == (DAY.key, 2_000, True)
    assert [ledger.calls.get(call.id) is not None for call in calls] == [True, True, False, False, False]


async def test_a_release_wakes_who_waits(ledger: Ledger) -> None:
    """`freed` returns when a hold is released, at once if it was since the refusal, else after the time-out."""
    call = call_start()
    attempt = attempt_start(call.id, 2_000)
    await ledger.calls.begin(attempt, (DAY,), call)
    refused = await ledger.calls.begin(attempt_start(call.id), (DAY,))
    assert isinstance(refused, Refused)
    assert not await ledger.calls.wait_for_release(0.01, refused.releases)
    waiting = asyncio.create_task(ledger.calls.wait_for_release(180, refused.releases))
    await asyncio.sleep(0)
    await ledger.calls.finish(attempt_end(attempt))
    assert await waiting
    assert await ledger.calls.wait_for_release(0, refused.releases)


async def test_a_bill_above_its_ceiling_is_recorded_and_said(ledger: Ledger) -> None:
    """A provider that bills above its ceiling is recorded, said, and stops the scope."""
    call = call_start()
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (DAY,), call)
    settled = await ledger.calls.finish(attempt_end(attempt, 5_000), call_end(call))
    assert settled.overrun == (DAY.key,)
    budget = ledger.reports.budget(DAY.key)
    assert budget is not None
    assert (budget.spent_pico, budget.reserved_pico, budget.over_pico, budget.stopped) == (
        5_000,
        0,
        3_000,
        True,
    )
    again = await ledger.calls.begin(attempt_start(call.id, 1), (DAY,))
    assert isinstance(again, Refused)
    assert again.stopped
    assert isinstance(await ledger.calls.begin(attempt_start(call.id, 1), (Scope(DAY.key, 9_000),)), Admitted)


async def test_an_unknown_cost_is_charged_at_its_ceiling(ledger: Ledger) -> None:
    """An attempt of unknown cost is NULL in the books, and its ceiling counts in the caps."""
    call = call_start()
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (DAY,), call)
    lost = attempt_end(attempt, 1_000, cost=None, usage=None, state=AttemptState.UNKNOWN)
    await ledger.calls.finish(lost, call_end(call, None, status=Status.FAILED, error="lost"))
    total = ledger.reports.spent_total()
    assert (total.known_pico, total.at_most_unknown_pico, total.unknown) == (0, 1_000, 1)
    assert ledger.reports.spent_total(since_us=2_000) == Money()
    assert (total + total).attempts == 2
    assert total.usd == 0


async def test_one_bad_write_fails_alone(ledger: Ledger) -> None:
    """A write that the database refuses reaches its own caller; the others of its group stand."""
    good, bad, odd = (
        call_start(),
        call_start(template_digest="1:sha256:unknown"),
        call_start(variables={"x": object()}),
    )
    huge = call_start()
    answers = await asyncio.gather(
        ledger.calls.begin(attempt_start(good.id), (DAY,), good),
        ledger.calls.begin(attempt_start(bad.id), (DAY,), bad),
        ledger.calls.begin(attempt_start(odd.id), (DAY,), odd),
        ledger.calls.begin(attempt_start(huge.id, started_us=1 << 70), (), huge),
        ledger.calls.finish(attempt_end(attempt_start(good.id))),
        return_exceptions=True,
    )
    assert answers[0] == Admitted()
    assert [type(answer) for answer in answers[1:]] == [LedgerError, TypeError, LedgerError, LedgerError]
    assert "is not open" in str(answers[4])
    budget = ledger.reports.budget(DAY.key)
    assert budget is not None
    assert budget.reserved_pico == 1_000


async def test_a_cancelled_begin_holds_nothing(ledger: Ledger) -> None:
    """A caller that is cancelled while its attempt is admitted leaves no hold: it was never sent."""
    call = call_start()
    attempt = attempt_start(call.id)
    task = asyncio.create_task(ledger.calls.begin(attempt, (DAY,), call))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await one_call(ledger)
    budget = ledger.reports.budget(DAY.key)
    assert budget is not None
    assert (budget.spent_pico, budget.reserved_pico) == (0, 0)
    found = ledger.calls.get(call.id)
    assert found is not None
    assert found.attempts[0].detail == "withdrawn before it was sent"
    assert found.money == Money(0, 0, 0, 1)


async def test_a_call_that_never_had_an_attempt(ledger: Ledger) -> None:
    """A call refused before any attempt is kept, with why."""
    call = call_start(variables=None)
    await ledger.calls.end(
        call_end(call, None, status=Status.FAILED, error="budget", text_sha256=None), None, call
    )
    found = ledger.calls.get(call.id)
    assert found is not None
    assert (found.status, found.error, found.attempts, found.variables, found.text) == (
        Status.FAILED,
        "budget",
        (),
        None,
        None,
    )
    (line,) = ledger.calls.search()
    assert (line.target, line.money, line.input_tokens) == (None, Money(), None)


async def test_text_that_utf8_cannot_hold_is_kept_readable(ledger: Ledger) -> None:
    """A reply with a lone surrogate or a NUL is kept: a paid reply is never lost to its characters."""
    call = call_start(variables={"brand": "caf\u00e9 \udc00"})
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (), call)
    await ledger.calls.finish(
        attempt_end(attempt, detail="\x00"), call_end(call, "a\ud800b\x00 \u00e9 \U0001f600")
    )
    found = ledger.calls.get(call.id)
    assert found is not None
    assert found.text == "a\ufffdb\ufffd \u00e9 \U0001f600"


async def test_the_log_finds_calls(ledger: Ledger) -> None:
    """Calls are found by text, template, target, tags, fault and time, newest first."""
    plain = await one_call(ledger)
    call = call_start(tags={"client": "barly", "kind": "hook"}, template_ref="ugc/hooks@1", started_us=9_000)
    attempt = attempt_start(call.id, target=Target("anthropic", "claude-haiku-5-5"))
    await ledger.calls.begin(attempt, (), call)
    end = attempt_end(attempt, state=AttemptState.FAILED, fault=Fault.QUOTA)
    await ledger.calls.finish(end, call_end(call, "100% proof", error="out of credit"))
    assert [line.id for line in ledger.calls.search()] == [call.id, plain.id]
    assert [line.id for line in ledger.calls.search(1)] == [call.id]
    for where in (
        LogFilter(text="100% PROOF"),
        LogFilter(text="credit"),
        LogFilter(template="ugc/hooks"),
        LogFilter(template="ugc/hooks@1"),
        LogFilter(target="anthropic"),
        LogFilter(target="anthropic/claude-haiku-5-5"),
        LogFilter(tags={"client": "barly", "kind": "hook"}),
        LogFilter(fault=Fault.QUOTA),
        LogFilter(since_us=9_000),
    ):
        assert [line.id for line in ledger.calls.search(where=where)] == [call.id], where
    for where in (
        LogFilter(text="1_0"),
        LogFilter(template="ugc"),
        LogFilter(target="anthropic/gpt"),
        LogFilter(tags={"client": "other"}),
        LogFilter(job="night"),
        LogFilter(key="sku"),
    ):
        assert ledger.calls.search(where=where) == (), where
    line = ledger.calls.search(1)[0]
    assert (line.tags["client"], line.faults, line.money.known_pico) == ("barly", (Fault.QUOTA,), 600)


async def test_a_group_of_many_is_one_queue(ledger: Ledger) -> None:
    """More callers than the queue holds all get through, and the sums agree."""
    scope = Scope("job:1", 10**12)
    await asyncio.gather(*(one_call(ledger, (scope,), pico=3) for _ in range(4_500)))
    budget = ledger.reports.budget("job:1")
    assert budget is not None
    assert (budget.spent_pico, budget.reserved_pico) == (13_500, 0)
    assert ledger.reports.spent_total().known_pico == 13_500
    assert ledger.reports.budgets() == (budget,)


async def test_tag_sets_and_price_sources_are_stored_once(ledger: Ledger, database: Path) -> None:
    """A set of tags is one row however often and from whichever process it comes."""
    with Ledger.open(database) as other:
        for one in (ledger, other, ledger):
            call = call_start(tags={"b": "2", "a": "1"})
            attempt = attempt_start(call.id)
            await one.calls.begin(attempt, (), call)
            await one.calls.finish(attempt_end(attempt), call_end(call))
    with ledger._reader.connect() as connection:  # pyright: ignore[reportPrivateUsage]
        counts = [
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()  # noqa: S608
            for table in ("tagsets", "tags", "price_sources", "templates")
        ]
    assert counts == [1, 2, 1, 1]


async def test_nobody_else_can_read_it(ledger: Ledger, database: Path) -> None:
    """The database, its -wal and -shm, and every lock file are readable by their owner only."""
    await one_call(ledger)
    files = [path for path in database.parent.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"promptkit.db", "promptkit.db-wal", "promptkit.db-shm", "commit"}
    assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE((database.parent / "promptkit.db-locks").stat().st_mode) == 0o700


async def test_closing_writes_what_waits_and_settles_what_is_open(database: Path) -> None:
    """Close drains the queue; an attempt still open then is unknown, at its ceiling."""
    ledger = Ledger.open(database)
    await ledger.calls.store_templates([SOURCE])
    call, other = call_start(), call_start()
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (DAY,), call)
    late = asyncio.create_task(ledger.calls.end(call_end(other), None, other))
    await asyncio.sleep(0)
    ledger.close()
    ledger.close()
    await late
    with pytest.raises(LedgerError, match="closed"):
        await ledger.calls.begin(attempt_start(call.id))
    with Ledger.open(database) as again:
        found, budget = again.calls.get(call.id), again.reports.budget(DAY.key)
        assert again.calls.get(other.id) is not None
    assert found is not None
    assert found.attempts[0].state is AttemptState.UNKNOWN
    assert budget is not None
    assert (budget.spent_pico, budget.reserved_pico) == (1_000, 0)


def test_a_fork_is_refused(ledger: Ledger) -> None:
    """A process forked from the one that opened the ledger is told so, instead of waiting for ever."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        try:
            ledger.reports.spent_total()
        except LedgerError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_a_template_is_remembered_once(ledger: Ledger) -> None:
    """A source goes to the database once in a process."""
    before = new_id()
    await ledger.calls.store_templates([SOURCE])
    assert ledger.calls.stored_source(DIGEST) == SOURCE
    assert before < new_id()
