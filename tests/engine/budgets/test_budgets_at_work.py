"""Budgets, rules and strategies at work: a studio, its clients and three providers that a simulator plays."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from studio import ALL, ANTHROPIC, GEMINI, OPENAI, Studio, assert_books_agree, brands, run_all

from promptkit._util.notices import show_notices
from promptkit.engine.context import Session
from promptkit.errors import AllTargetsFailed, BudgetStop, NoUsableKey, UsageError
from promptkit.routing.budgets import scope_words
from promptkit.types import Status

ROWS = [
    {"brand": f"Brand {number}", "client": client}
    for number, client in enumerate(["barly", "lume", "barly", "lume", "barly", "lume"])
]
OWN = {"client": "@client"}
FAMILY = '[rules."client=barly"]\nallow = ["anthropic"]\n'


async def test_a_call_counts_in_all_its_scopes(studio: Studio) -> None:
    """What a call costs is spent in the day, the month and by each of its tags, and nowhere else."""
    studio.configure(
        budgets="per_day_usd = 1\nper_month_usd = 9\n"
        '[budgets.tags."client=barly"]\nper_month_usd = 2\n[budgets.tags."client=lume"]\nper_day_usd = 1'
    )
    async with studio.kit() as kit:
        reply = await kit.run("ad/line", {"brand": "Barly"}, tags={"client": "barly"})
        period = kit.session.period()
        ledger = await kit.session.ledger()
        spent = {record.scope: record.spent_pico for record in ledger.reports.budgets()}
        assert spent == dict.fromkeys(
            (f"day:{period.day}", f"month:{period.month}", f"month:{period.month} client=barly"),
            reply.charged_pico,
        )
        assert_books_agree(ledger, studio)


async def test_a_clients_cap_stops_its_own_rows_only(studio: Studio) -> None:
    """A tag's cap that is used up holds its rows back; the others go on, and with more room so do they."""
    studio.configure(budgets='[budgets.tags."client=barly"]\nper_month_usd = 0')
    async with studio.kit() as kit:
        job = studio.job(kit, ROWS, tags=OWN)
        results = await run_all(job)
        assert [result.number for result in results] == [2, 4, 6]
        assert isinstance(job.stop, BudgetStop)
        assert "client=barly" in job.stop.message
        ledger = await kit.session.ledger()
        assert len(list(ledger.jobs.pending_rows(job.record.id))) == 3
        assert len(ledger.calls.search()) <= 3 + 3  # a row under a full cap isn't begun again and again
    studio.configure(budgets='[budgets.tags."client=barly"]\nper_month_usd = 1')
    async with studio.kit() as kit:
        job = studio.job(kit, ROWS, tags=OWN)
        assert {result.status for result in await run_all(job)} == {Status.OK}
        assert job.stop is None
        assert studio.asked() == 6  # nothing was paid twice


async def test_the_days_cap_stops_the_job(studio: Studio) -> None:
    """A cap that holds for every row ends the job; its rows wait."""
    studio.configure(budgets="per_day_usd = 0")
    async with studio.kit() as kit:
        job = studio.job(kit, ROWS, tags=OWN)
        assert await run_all(job) == []
        assert isinstance(job.stop, BudgetStop)
    assert studio.asked() == 0


async def test_a_soft_cap_is_told_once_and_stops_nothing(studio: Studio) -> None:
    """However many calls pass it, a soft cap is said once; every row arrives."""
    studio.configure(budgets="soft_per_day_usd = 0.000001")
    async with studio.kit() as kit:
        assert len(await run_all(studio.job(kit, brands(12)))) == 12
        engine = await kit.session.engine()
        (passed,) = engine.soft_passed.values()
        ledger = await kit.session.ledger()
        record = ledger.reports.budget(passed.scope_key)
    told = [text for text in studio.said if "soft cap passed" in text]
    assert len(told) == 1
    assert scope_words(passed.scope_key) in told[0]
    assert record is not None
    assert (record.cap_pico, record.spent_pico) == (None, passed.spent_pico)


@pytest.mark.parametrize(
    ("before", "after", "days"),
    [
        # a night over midnight is one day; at noon the next begins
        ("2026-11-21T23:59:59", "2026-11-22T00:00:01", 1),
        ("2026-11-22T11:59:59", "2026-11-22T12:00:01", 2),
        # the nights on which the clocks change
        ("2026-03-29T01:59:59", "2026-03-29T03:00:01", 1),
        ("2026-10-25T02:59:59", "2026-10-25T02:00:01", 1),
        ("2026-10-25T11:59:59", "2026-10-25T12:00:01", 2),
    ],
)
def test_the_scopes_follow_the_clock(before: str, after: str, days: int, studio: Studio) -> None:
    """A process that runs through midnight, noon or a change of the clocks counts in the day that it is."""
    studio.configure(budgets="per_day_usd = 1", top='timezone = "Europe/Paris"\nday_starts_at = "12:00"')
    settings = studio.settings()
    show_notices(studio.said.append)
    session = Session(settings)
    told: list[str] = []
    for fold, local in ((0, before), (1, after)):
        at = datetime.fromisoformat(local).replace(tzinfo=settings.timezone, fold=fold)
        session.now = at.astimezone(UTC).timestamp
        told += [scope.key for scope in session.scopes("job:1", None)]
    assert len(set(told)) == days


# ------------------------------------------------------------------------------- rules


async def test_a_rule_holds_in_the_plan_in_fallback_and_in_the_last_resort(studio: Studio) -> None:
    """A client's calls reach no other provider, even when its own is down and a last resort stands ready."""
    studio.configure(route=f'last_resort = "{GEMINI}"\npatience_s = 0', tables=FAMILY)
    studio.sim.script([{"fault": "http.503", "provider": "anthropic", "times": 100}])
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed):
            await kit.run("ad/line", {"brand": "Barly"}, tags={"client": "barly"})
    assert studio.asked() == studio.asked("anthropic") > 0


@pytest.mark.parametrize("named", [{"route": "default"}, {"targets": [OPENAI, ANTHROPIC]}])
async def test_a_rule_holds_for_routes_that_the_user_names(studio: Studio, named: dict[str, object]) -> None:
    """--route and --target choose among what the rules allow."""
    studio.configure(tables=FAMILY)
    async with studio.kit() as kit:
        reply = await kit.run("ad/line", {"brand": "Barly"}, tags={"client": "barly"}, **named)  # pyright: ignore[reportArgumentType]
        assert str(reply.target) == ANTHROPIC
        with pytest.raises(UsageError, match=r'\[rules."client=barly"\] forbids every one'):
            await kit.run("ad/line", {"brand": "Barly"}, tags={"client": "barly"}, targets=[GEMINI])


async def test_each_row_goes_by_its_own_tags(studio: Studio) -> None:
    """In a batch a row's own client decides where it may go, and over which route."""
    studio.configure(
        tables=FAMILY + f'[rules."client=lume"]\nroute = "other"\n[routes.other]\ntargets = ["{GEMINI}"]\n'
    )
    async with studio.kit() as kit:
        job = kit.batch("ad/line", ROWS, job="night", tags=OWN)
        results = await run_all(job)
        ledger = await kit.session.ledger()
        routes = Counter(
            call.route for call in map(ledger.calls.get, [one.id for one in ledger.calls.search()]) if call
        )
    assert [str(result.target) for result in results] == [ANTHROPIC, GEMINI] * 3
    assert routes == {"default": 3, "other": 3}


async def test_a_named_route_is_every_rows_route(studio: Studio) -> None:
    """Where the user names a route, no rule sends a row elsewhere; it only forbids."""
    studio.configure(
        tables=FAMILY + f'[rules."client=lume"]\nroute = "other"\n[routes.other]\ntargets = ["{GEMINI}"]\n'
    )
    async with studio.kit() as kit:
        results = await run_all(kit.batch("ad/line", ROWS, job="night", tags=OWN, route="default"))
    assert [str(result.target) for result in results] == [ANTHROPIC, OPENAI] * 3


async def test_a_row_without_any_target_fails_alone(studio: Studio) -> None:
    """Where the rules leave a row nothing, it fails with the rule's name and the others go on."""
    studio.configure(tables='[rules."client=barly"]\nallow = ["mistral"]\n')
    async with studio.kit() as kit:
        results = await run_all(kit.batch("ad/line", ROWS, job="night", tags=OWN))
    assert [result.status for result in results] == [Status.FAILED, Status.OK] * 3
    assert "the rules leave no target of the route 'default': [rules.\"client=barly\"]" in (
        results[0].error or ""
    )
    assert studio.asked() == 3


async def test_a_row_whose_only_target_has_no_key_waits(studio: Studio) -> None:
    """What a key would mend is no failure of the row: it waits, and the job says why at its end."""
    studio.configure(
        targets=[*ALL, "mistral/mistral-small-2603"],
        tables='[rules."client=barly"]\nallow = ["mistral"]\n',
    )
    async with studio.kit() as kit:
        job = studio.job(kit, ROWS, tags=OWN)
        results = await run_all(job)
        assert isinstance(job.stop, NoUsableKey)
        assert len(list((await kit.session.ledger()).jobs.pending_rows(job.record.id))) == 3
    assert [result.number for result in results] == [2, 4, 6]


async def test_a_rule_by_skeleton(studio: Studio) -> None:
    """A template has its own route in all its versions."""
    studio.configure(
        tables=f'[rules."template=ad/line"]\nroute = "other"\n[routes.other]\ntargets = ["{GEMINI}"]\n'
    )
    async with studio.kit() as kit:
        for ref in ("ad/line", "ad/line@1", "ad/line@draft"):
            assert str((await kit.run(ref, {"brand": "Barly"})).target) == GEMINI
        results = await run_all(kit.batch("ad/line", brands(2), job="night"))
    assert {str(result.target) for result in results} == {GEMINI}


# -------------------------------------------------------------------------- strategies


async def targets_of(studio: Studio, calls: int) -> Counter[str]:
    async with studio.kit() as kit:
        job = kit.batch("ad/line", brands(calls), job="night", concurrency=4)
        return Counter(str(result.target) for result in await run_all(job))


async def test_cheapest_goes_by_this_prompts_price(studio: Studio) -> None:
    """The cheapest target answers, and when it fails the next cheapest does."""
    studio.configure(
        targets=[ANTHROPIC, GEMINI, "big/big-1"], route='strategy = "cheapest"', budgets="per_day_usd = 1"
    )
    assert await targets_of(studio, 8) == {"big/big-1": 8}
    studio.sim.script([{"fault": "http.404", "provider": "big", "times": 100}])
    async with studio.kit() as kit:
        reply = await kit.run("ad/line", {"brand": "Barly"})
    assert [str(attempt.target) for attempt in reply.attempts] == ["big/big-1", GEMINI]


async def test_weighted_goes_by_weights(studio: Studio) -> None:
    """Shares of the calls are as the weights say; weight 0 is asked only when others failed."""
    studio.configure(route='strategy = "weighted"\nweights = [0, 3, 1]')
    found = await targets_of(studio, 200)
    assert found[OPENAI] == 0
    assert 115 <= found[ANTHROPIC] <= 185
    assert found[ANTHROPIC] + found[GEMINI] == 200


@pytest.mark.virtual_time
async def test_fastest_goes_by_the_latest_answers(studio: Studio) -> None:
    """After a while the slow one is asked no more but to be measured; another process knows it at once."""
    studio.configure(targets=[OPENAI, ANTHROPIC], route='strategy = "fastest"')
    studio.sim.script([{"fault": "wire.slow_first_byte", "provider": "openai", "times": 3, "seconds": 0.3}])
    async with studio.kit() as kit:
        for target in (OPENAI, ANTHROPIC):
            await kit.run("ad/line", {"brand": "Barly"}, targets=[target])
    assert await targets_of(studio, 20) == {ANTHROPIC: 20}
