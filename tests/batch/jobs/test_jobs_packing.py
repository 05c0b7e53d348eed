"""Packs under way: rows share requests, end once, and cost what the provider billed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import studio as studio_module
from studio import ALL, BIGGEST, LINE, REF, Studio, assert_books_agree, brands, run_all, until

from promptkit.batch.options import pack_of
from promptkit.cli.views.call import read_call
from promptkit.errors import BudgetStop, UsageError
from promptkit.ledger.erasing import Erase
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import CallRecord, LogFilter, RowState
from promptkit.reports.report import ReportQuery, make_report
from promptkit.types import Fault, Status

WORKER = Path(studio_module.__file__).with_name("studio_worker.py")
LONG = LINE.replace("You write one line.", "You write one line. " + "Keep to the house style, always. " * 150)
SCHEMA = LINE.replace(
    "+++\n{%",
    '[output]\ntype = "object"\nrequired = ["line"]\n[output.properties.line]\ntype = "string"\n+++\n{%',
)


def bodies(studio: Studio) -> list[str]:
    """What was sent, as it was sent."""
    return [str(note["body"]) for note in studio.sim.requests(bodies=True)]


def sent_brands(studio: Studio) -> list[Counter[str]]:
    """The brands in each request, one count an item."""
    return [Counter(part.split(".")[0] for part in body.split("Brand: ")[1:]) for body in bodies(studio)]


def calls_of(ledger: Ledger) -> list[CallRecord]:
    found = [ledger.calls.get(logged.id) for logged in ledger.calls.search(limit=10_000)]
    return [call for call in found if call is not None]


def assert_rows_add_up(ledger: Ledger, job_id: int) -> None:
    """The rows' costs are the job's, to the pico-dollar, and so are the parts of every pack."""
    rows = list(ledger.jobs.output_rows(job_id))
    money = ledger.reports.spent_by_job(job_id)
    assert sum(out.money.known_pico for out in rows) == money.known_pico
    assert sum(out.money.charged_pico for out in rows) == money.charged_pico
    calls = calls_of(ledger)
    for carrier in (call for call in calls if call.pack_items is not None):
        members = [call for call in calls if call.pack_id == carrier.id]
        assert len(members) == carrier.pack_items
        for whole, *parts in zip(carrier.attempts, *(one.attempts for one in members), strict=True):
            assert sum(part.charged_pico for part in parts) == whole.charged_pico
            if whole.cost is not None and whole.usage is not None:
                assert sum(part.cost.pico for part in parts if part.cost) == whole.cost.pico
                assert (
                    sum(part.usage.input_tokens for part in parts if part.usage) == whole.usage.input_tokens
                )


async def test_rows_share_requests(studio: Studio) -> None:
    """Up to N rows go in one request, each gets its own text and its part of the cost; one left over goes alone."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(11), pack=5)
        results = await run_all(job)
        ledger = await kit.session.ledger()
        assert [result.status for result in results] == [Status.OK] * 11
        assert len({result.text for result in results}) == 11
        assert sorted(sum(one.values()) for one in sent_brands(studio)) == [1, 5, 5]
        assert sum(sent_brands(studio), Counter[str]()) == Counter(f"Brand {number}" for number in range(11))
        assert sum(result.cost.pico for result in results if result.cost) == studio.billed_pico
        assert_books_agree(ledger, studio)
        assert_rows_add_up(ledger, job.record.id)
        assert any("10 rows in 2 requests" in said for said in studio.said)
        stored = {out.row.position + 1: out for out in ledger.jobs.output_rows(job.record.id)}
        for result in results:
            assert stored[result.number].text == result.text
            assert result.cost is not None
            assert stored[result.number].money.known_pico == result.cost.pico
        assert len(await run_all(studio.job(kit, brands(11), pack=5))) == 11
        assert studio.asked() == 3


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        ("reply.items_missing", None),
        ("reply.items_repeated", None),
        ("reply.items_extra", None),
        ("reply.truncated", 1),
        ("reply.not_json", None),
        ("reply.wrong_json", None),
        ("openai.content_policy", 1),
        ("openai.context_length", 3),
        ("wire.malformed", 1),
        ("http.503", 1),
    ],
)
@pytest.mark.parametrize("targets", [1, 3])
async def test_what_a_pack_does_not_answer_is_asked_for_again(
    studio: Studio, fault: str, times: int | None, targets: int
) -> None:
    """Whatever a pack brings, every row ends once, with its text, and the rows' costs add up to the bill."""
    studio.configure(targets=ALL[:targets])
    rule: dict[str, Any] = {"fault": fault} if times is None else {"fault": fault, "times": times}
    studio.sim.script([rule])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(9), pack=8, concurrency=1)
        results = await run_all(job)
        ledger = await kit.session.ledger()
        assert [result.number for result in results] == list(range(1, 10))
        assert [result.status for result in results] == [Status.OK] * 9
        assert all(result.text for result in results)
        assert ledger.jobs.row_counts(job.record.id) == {RowState.OK: 9}
        assert_books_agree(ledger, studio)
        assert_rows_add_up(ledger, job.record.id)
        known = [result.cost.pico for result in results if result.cost is not None]
        if len(known) == 9:
            assert sum(known) == studio.billed_pico


async def test_the_wrong_ones_are_asked_for_by_halves(studio: Studio) -> None:
    """The items that are missing are asked for in halves, and each alone at last: the others are not sent again."""
    studio.configure(targets=ALL[:1])
    studio.sim.script(["reply.items_missing"])
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(8), pack=8))
    # Every second one is missing: of 8 the 2nd, 4th, 6th, 8th; of the halves of those again one each.
    assert [sum(one.values()) for one in sent_brands(studio)] == [8, 2, 1, 2, 1]
    assert any("2 items" not in said and "sent once more" in said for said in studio.said)


async def test_a_cut_reply_fails_its_tail_only(studio: Studio) -> None:
    """Of a reply that hit its length limit the whole items are kept; the rest is sent once more."""
    studio.configure(targets=ALL[:1])
    studio.sim.script([{"fault": "reply.truncated", "times": 1}])
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, brands(6), pack=6))
        assert [result.status for result in results] == [Status.OK] * 6
        again = sum(sent_brands(studio)[1:], Counter[str]())
    assert 1 <= len(again) < 6
    assert again == Counter(f"Brand {number}" for number in range(6 - len(again), 6))


async def test_clients_never_share_a_request(studio: Studio) -> None:
    """Rows of different clients never go in one request, however they are mixed in the input."""
    rows = [{"brand": f"Brand {number}", "client": f"client-{number % 3}"} for number in range(24)]
    async with studio.kit() as kit:
        job = studio.job(kit, rows, pack=6, tags={"client": "@client"}, constants={})
        assert len(await run_all(job)) == 24
        ledger = await kit.session.ledger()
        owner = {str(row["brand"]): row["client"] for row in rows}
        assert all(len({owner[brand] for brand in one}) == 1 for one in sent_brands(studio))
        assert studio.asked() == 6
        for carrier in (call for call in calls_of(ledger) if call.pack_items):
            members = [call for call in calls_of(ledger) if call.pack_id == carrier.id]
            assert {call.tags["client"] for call in members} == {carrier.tags["client"]}


async def test_costs_go_to_each_deliverable(studio: Studio) -> None:
    """Rows of different deliverables may share a request; reports by anything add up to the bill, failed items included."""
    studio.configure(targets=ALL[:1])
    studio.sim.script([{"fault": "reply.items_missing", "times": 2}])
    rows = [
        {"brand": f"Brand {number}", "client": f"client-{number % 2}", "film": f"film-{number // 3}"}
        for number in range(12)
    ]
    async with studio.kit() as kit:
        job = studio.job(kit, rows, pack=6, tags={"client": "@client", "deliverable": "@film"})
        assert len(await run_all(job)) == 12
        ledger = await kit.session.ledger()
        settings = kit.session.settings
        whole = ledger.reports.spent_total()
        assert whole.known_pico == studio.billed_pico
        for by in [(), ("deliverable",), ("client",), ("template",), ("target",), ("job",), ("day",)]:
            report = make_report(ledger, settings, ReportQuery(by))
            assert report.total.tally.money == whole
            assert sum(group.tally.known_pico for group in report.groups) == whole.known_pico
            assert report.total.tally.rows == 12
            assert report.total.deliverables == 4
        groups = make_report(ledger, settings, ReportQuery(("deliverable",))).groups
        assert {group.key for group in groups} == {(f"film-{number}",) for number in range(4)}
        assert all(group.tally.known_pico > 0 for group in groups)
        lost = make_report(ledger, settings, ReportQuery()).total.tally
        assert 0 < lost.lost_known_pico < lost.known_pico
        film = make_report(ledger, settings, ReportQuery(tags={"deliverable": "film-1"})).total.tally
        assert film.known_pico == next(one for one in groups if one.key == ("film-1",)).tally.known_pico
        assert_rows_add_up(ledger, job.record.id)


async def test_structured_replies(studio: Studio) -> None:
    """Under a template's own schema each item is an object of it, and comes out parsed."""
    studio.publish(SCHEMA, "ad/fields")
    for targets in (ALL[:1], ALL[1:2], ALL[2:]):
        studio.configure(targets=targets)
        async with studio.kit() as kit:
            job = studio.job(kit, brands(4), f"night-{targets}", ref="ad/fields", pack=4)
            results = await run_all(job)
            assert [type(result.parsed) for result in results] == [dict] * 4
            assert all(json.loads(result.text or "") == result.parsed for result in results)
    assert studio.asked() == 3


async def test_an_item_that_fails_its_checks_is_asked_for_alone(studio: Studio) -> None:
    """Checks hold for each item: one that fails them is sent once more under `retry`, and kept with its flags else."""
    studio.configure(targets=ALL[:1])
    for on_failure in ("retry", "flag"):
        checks = f'[checks]\nbanned = ["Voilà"]\non_failure = "{on_failure}"\n+++\n{{%'
        studio.publish(LINE.replace("+++\n{%", checks), f"ad/{on_failure}")
    async with studio.kit() as kit:
        kept = await run_all(studio.job(kit, brands(12), "flag", ref="ad/flag", pack=12))
        assert studio.asked() == 1
        flagged = [result for result in kept if result.flags]
        assert 0 < len(flagged) < 12
        assert all("Voilà" in (result.text or "") for result in flagged)
        results = await run_all(studio.job(kit, brands(12), "retry", ref="ad/retry", pack=12))
        assert 1 < studio.asked() - 1 < 14
        assert not any("Voilà" in (result.text or "") for result in results if result.status is Status.OK)
        assert_books_agree(await kit.session.ledger(), studio)


async def test_other_targets_get_the_whole_pack(studio: Studio) -> None:
    """Where the first target is down, the pack goes on to the next as a whole."""
    studio.sim.script([{"fault": "http.503", "provider": "openai"}])
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, brands(4), pack=4))
        assert {str(result.target) for result in results} == {ALL[1]}
    assert {sum(one.values()) for one in sent_brands(studio)} == {4}


async def test_the_last_resort_never_gets_a_pack(studio: Studio) -> None:
    """Rows that nobody else answers go to the last resort alone, and are degraded."""
    studio.configure(targets=ALL[:1], route='last_resort = "big/big-1"\npatience_s = 0.05')
    studio.sim.script([{"fault": "http.503", "provider": "openai"}])
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, brands(3), pack=3, concurrency=1))
        assert [result.status for result in results] == [Status.DEGRADED] * 3
    by_last = [
        brand
        for note, brand in zip(studio.sim.requests(), sent_brands(studio), strict=True)
        if note["provider"] == "big"
    ]
    assert [sum(one.values()) for one in by_last] == [1, 1, 1]


async def test_an_outage_leaves_the_rows(studio: Studio) -> None:
    """Where nobody answers, the rows of a pack wait as any others do, and nothing was paid."""
    studio.configure(route="max_wait_s = 0.05\noutage_s = 0.2")
    studio.sim.script(["http.503"])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(4), pack=4)
        assert await run_all(job) == []
        report = await job.report()
        assert (report.pending, report.money.known_pico) == (4, 0)
    studio.sim.script([])
    async with studio.kit() as kit:
        for provider in studio_module.THREE:
            await (await kit.session.ledger()).shared.reset_circuits(provider)
        assert len(await run_all(studio.job(kit, brands(4), pack=4))) == 4
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_cap_holds(studio: Studio) -> None:
    """A pack holds the ceiling of all of it, so a cap stops packs before it is passed; raised, the job goes on."""
    async with studio.kit() as kit:
        with pytest.raises(BudgetStop):
            await run_all(kit.batch(REF, brands(30), job="night", pack=4, budget_usd=Decimal("0.0013")))
        ledger = await kit.session.ledger()
        record = ledger.jobs.get("night")
        assert record is not None
        counts = ledger.jobs.row_counts(record.id)
        assert 0 < counts[RowState.OK] < 30
        assert counts[RowState.OK] + counts[RowState.PENDING] == 30
        assert ledger.reports.spent_by_job(record.id).charged_pico <= 13 * 10**8
        await run_all(kit.batch(REF, brands(30), job="night", pack=4, budget_usd=Decimal(1)))
        assert ledger.jobs.row_counts(record.id) == {RowState.OK: 30}
        assert_books_agree(ledger, studio)


async def test_a_target_that_takes_less_gets_smaller_packs(studio: Studio) -> None:
    """As many rows go together as the smallest output limit of the route allows; longer ones go alone."""
    big = studio.folder / "providers/big.toml"
    big.write_text(big.read_text().replace("max_output_tokens = 32000", "max_output_tokens = 1000"))
    studio.configure(targets=["big/big-1"])
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(6), pack=6))
        assert [sum(one.values()) for one in sent_brands(studio)] == [2, 2, 2]
    big.write_text(big.read_text().replace("max_output_tokens = 1000", "max_output_tokens = 500"))
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(2), "again", pack=6))
    assert studio.asked() == 5


async def test_what_can_not_be_packed_goes_alone(studio: Studio) -> None:
    """A template whose prompts can't share a request is sent row by row, and that is said once."""
    studio.publish(
        LINE.replace("max_output_tokens = 400", 'max_output_tokens = 400\nstop = ["END"]'), "ad/stop"
    )
    async with studio.kit() as kit:
        assert len(await run_all(studio.job(kit, brands(3), ref="ad/stop", pack=3))) == 3
    assert studio.asked() == 3
    assert sum("these rows are sent one by one" in said for said in studio.said) == 1


async def test_cached_replies_are_not_packed(studio: Studio) -> None:
    """What the reply cache holds is taken from there before a pack is made; a pack's replies serve nobody later."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(2), "first", cache_s=3600.0))
        results = await run_all(studio.job(kit, brands(5), "second", pack=5, cache_s=3600.0))
        assert [result.cached_from is not None for result in results] == [True, True, False, False, False]
        assert [sum(one.values()) for one in sent_brands(studio)] == [1, 1, 3]
        await run_all(studio.job(kit, brands(5), "third", cache_s=3600.0))
        assert studio.asked() == 6
        assert_books_agree(await kit.session.ledger(), studio)


async def test_halting_lets_the_failed_ones_wait(studio: Studio) -> None:
    """A run that is halted sends nothing new: items that failed wait for the next start."""
    studio.configure(targets=ALL[:1])
    studio.sim.script(["reply.items_missing"])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(6), pack=6)
        async with job:
            async for _ in job.results():
                job.halt()
        rows = (await job.report()).rows
        assert rows[RowState.OK] + rows[RowState.PENDING] == 6
        assert rows[RowState.OK] < 6
        assert studio.asked() <= 2
        studio.sim.script([])
        assert len(await run_all(studio.job(kit, brands(6), pack=6))) == 6
        assert_rows_add_up(await kit.session.ledger(), job.record.id)


# --------------------------------------------------------------------------------- killed


async def test_a_pack_that_was_killed_is_unknown_for_all_its_rows(studio: Studio) -> None:
    """After a SIGKILL every row of an open pack has an unknown outcome, which is charged once, at the pack's ceiling."""
    studio.configure(targets=ALL[:1])
    studio.sim.script([{"fault": "wire.stall", "billed": True}])
    command = [sys.executable, WORKER, str(studio.folder), "night", "0", "8", "2", "4"]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: ASYNC220, S603 - it is killed
    await until(lambda: studio.asked() == 2)
    os.kill(worker.pid, signal.SIGKILL)
    await asyncio.to_thread(worker.communicate)
    studio.sim.script([])
    async with studio.kit() as kit:
        ledger = await kit.session.ledger()
        record = ledger.jobs.get("night")
        assert record is not None
        rows = list(ledger.jobs.pending_rows(record.id))
        assert [row.unknowns for row in rows] == [1] * 8
        money = ledger.reports.spent_by_job(record.id)
        assert (money.unknown, money.attempts) == (2, 2)
        assert_rows_add_up(ledger, record.id)
        assert_books_agree(ledger, studio)
        failed = await run_all(studio.job(kit, brands(8), pack=4, resend_unknown=False, concurrency=2))
        assert [result.status for result in failed] == [Status.FAILED] * 8
        assert studio.asked() == 2
        again = studio.job(kit, brands(8), pack=4, retry_failed=True, concurrency=2)
        assert [result.status for result in await run_all(again)] == [Status.OK] * 8
        assert studio.asked() == 4
        assert_rows_add_up(ledger, record.id)
        assert_books_agree(ledger, studio)


@pytest.mark.virtual_time
async def test_an_answer_that_never_comes(studio: Studio) -> None:
    """A pack that was sent and never answered is unknown for all its rows; under `--on-unknown fail` they fail."""
    studio.configure(targets=ALL[:1], timeout_s=0.5)
    studio.sim.script([{"fault": "wire.stall", "times": 1}])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(3), pack=3, resend_unknown=False)
        results = await run_all(job)
        assert [result.status for result in results] == [Status.FAILED] * 3
        assert studio.asked() == 1
        ledger = await kit.session.ledger()
        assert [out.row.unknowns for out in ledger.jobs.output_rows(job.record.id)] == [1] * 3
        assert [out.money.unknown for out in ledger.jobs.output_rows(job.record.id)] == [1] * 3
        assert_rows_add_up(ledger, job.record.id)


@pytest.mark.virtual_time
async def test_a_caller_who_goes_away(studio: Studio) -> None:
    """A run that is cancelled records its packs as unknown, and their rows wait."""
    studio.configure(targets=ALL[:1])
    studio.sim.script([{"fault": "wire.stall"}])
    async with studio.kit() as kit:
        job = studio.job(kit, brands(3), pack=3)
        running = asyncio.create_task(run_all(job))
        await until(lambda: studio.asked() == 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ledger = await kit.session.ledger()
        assert [row.unknowns for row in ledger.jobs.pending_rows(job.record.id)] == [1] * 3
        assert {call.status for call in calls_of(ledger)} == {Status.FAILED}
        assert_rows_add_up(ledger, job.record.id)


# ----------------------------------------------------------------------------------- auto


async def test_auto_packs_where_it_saves(studio: Studio) -> None:
    """`auto` packs rows that share a long beginning, says why, and pays less than row by row."""
    studio.publish(LONG)
    studio.configure(targets=[BIGGEST])
    async with studio.kit() as kit:
        alone = await run_all(studio.job(kit, brands(12), "alone", ref=f"{REF}@2"))
        paid = studio.billed_pico
        packed = await run_all(studio.job(kit, brands(12), "auto", ref=f"{REF}@2", pack=0, concurrency=1))
        assert len(alone) == len(packed) == 12
        assert studio.asked() < 12 + 6
        assert studio.billed_pico - paid < paid / 2
        assert any("rows per request, about" in said for said in studio.said)


async def test_auto_packs_nothing_that_saves_nothing(studio: Studio) -> None:
    """`auto` sends rows alone that share little, and says why."""
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(3), pack=0))
    assert studio.asked() == 3
    assert sum("packs save too little" in said for said in studio.said) == 1


async def test_auto_stops_when_failures_eat_the_gain(studio: Studio) -> None:
    """Where too many items must be sent once more, `auto` goes on row by row, and says so."""
    studio.publish(LONG)
    studio.configure(targets=[BIGGEST])
    studio.sim.script(["reply.not_json"])
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, brands(60), ref=f"{REF}@2", pack=0, concurrency=1))
        assert [result.status for result in results] == [Status.OK] * 60
    assert sum("Rows are now sent one by one" in said for said in studio.said) == 1
    last = [sum(one.values()) for one in sent_brands(studio)][-20:]
    assert last == [1] * 20


@pytest.mark.parametrize(("said", "rows"), [("auto", 0), (1, 1), (100, 100)])
def test_what_a_user_says(said: int | str, rows: int) -> None:
    """A number of rows, or `auto`."""
    assert pack_of(said) == rows


@pytest.mark.parametrize("said", [0, -1, 101, "many"])
def test_what_a_user_can_not_say(said: int | str) -> None:
    """Anything else is refused, with what may be said."""
    with pytest.raises(UsageError, match="from 1"):
        pack_of(said)


# ---------------------------------------------------------------------------------- shown


async def test_show_proves_a_pack_and_its_rows(studio: Studio) -> None:
    """`show` renders a row's own prompt and the packed one again, and both have the digests that were sent."""
    studio.configure(targets=ALL[:1])
    studio.sim.script([{"fault": "reply.items_missing", "times": 1}])
    async with studio.kit() as kit:
        await run_all(studio.job(kit, brands(5), pack=5))
        ledger = await kit.session.ledger()
        calls = calls_of(ledger)
        for call in calls:
            page = read_call(ledger, call.id)
            assert page.matches, page.why
            assert len(page.items) == (call.pack_items or 0)
        first = min((call for call in calls if call.pack_items), key=lambda call: call.id)
        assert first.error == "2 missing"
        prompt = read_call(ledger, first.id).prompt
        assert prompt is not None
        assert any(prompt.messages[-1].content[:40] in body for body in bodies(studio))
        assert [item.status for item in ledger.calls.pack_items(first.id)] == [
            Status.OK,
            Status.FAILED,
            Status.OK,
            Status.FAILED,
            Status.OK,
        ]
        by_target = ledger.calls.search(100, LogFilter(target="openai"))
        assert len(by_target) == len(calls)
        assert not ledger.calls.search(100, LogFilter(fault=Fault.CONTENT))


async def test_forgetting_a_row_forgets_its_pack(studio: Studio) -> None:
    """Erasing a row's texts takes the packed prompt with them, and no other row's; costs stay."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(4), pack=4)
        await run_all(job)
        ledger = await kit.session.ledger()
        before = ledger.reports.spent_total()
        member, other = list(itertools.islice((call for call in calls_of(ledger) if call.pack_id), 2))
        await ledger.erase(Erase(call_ids=(member.id,)))
        carrier = ledger.calls.get(member.pack_id or 0)
        assert carrier is not None
        assert carrier.forgotten_us
        assert read_call(ledger, member.id).prompt is None
        assert read_call(ledger, carrier.id).why == "its texts were erased"
        assert read_call(ledger, other.id).matches
        assert ledger.reports.spent_total() == before
        await ledger.erase(Erase(call_ids=(carrier.id,)))
        assert_rows_add_up(ledger, job.record.id)
