"""What a job would cost, asked before it begins and while it is under way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from studio import ALL, ANTHROPIC, LINE, OPENAI, REF, Studio, attempts_of, brands, run_all

from promptkit import AsyncPromptKit, Quote
from promptkit.errors import BudgetStop, NoUsableKey
from promptkit.types import Status, Target

TWO = (OPENAI, ANTHROPIC)
RULES = "\n".join(
    f"Rule {n}: keep it short, name the product once, promise nothing ({n})." for n in range(90)
)
LONG = LINE.replace("You write one line.", f"You write one line.\n{RULES}")


async def quote(kit: AsyncPromptKit, rows: Any, job: str = "night", **options: Any) -> Quote:
    return await kit.batch(REF, rows, job=job, **options).quote()


async def test_a_quote_sends_and_makes_nothing(studio: Studio) -> None:
    """Rows, duplicates and tokens are known without a ledger; there is none afterwards."""
    (studio.folder / "promptkit.db").unlink(missing_ok=True)
    async with studio.kit() as kit:
        told = await quote(kit, [*brands(3), {"brand": "Brand 1"}, {"angle": "proof"}])
    counts = told.counts
    assert (counts.rows, counts.to_send, counts.done, counts.invalid, counts.duplicates) == (5, 4, 0, 1, 1)
    assert [str(one.target) for one in told.targets] == list(ALL)
    assert (told.job, told.replies, studio.asked()) == (None, 0, 0)
    assert not (studio.folder / "promptkit.db").exists()


async def test_the_worst_case_is_a_bound_and_the_expected_cost_is_near(studio: Studio) -> None:
    """After some rows the ledger tells how long answers are: what the rest costs is foreseen, and within the bound."""
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, brands(20), job="before"))
        told = await quote(kit, brands(40))
        job = kit.batch(REF, brands(40), job="night")
        await run_all(job)
        spent = (await job.report()).money.known_pico
    assert told.replies == 20
    assert told.figures.timed
    assert told.figures.low_pico is not None
    assert told.figures.low_pico <= spent <= (told.figures.worst_pico or 0)
    assert told.figures.expected_pico == pytest.approx(spent, rel=0.25)


@pytest.mark.parametrize("target", [OPENAI, ANTHROPIC])
async def test_what_a_prompt_cache_saves_is_foreseen(studio: Studio, target: str) -> None:
    """From the template alone, and by a batch before: within a quarter of what the attempts say it saved."""
    studio.publish(LONG)
    studio.configure(targets=[target])
    async with studio.kit() as kit:
        for job in ("before", "night"):
            told = (await quote(kit, brands(40), job=job)).figures
            await run_all(kit.batch(REF, brands(40), job=job, concurrency=8))
            attempts = attempts_of(await kit.session.ledger())[-40:]
            saved = sum(one.cost.cache_saved_pico for one in attempts if one.cost)
            assert told.cache_saved_pico == pytest.approx(saved, rel=0.25), job
        cost = sum(one.cost.pico for one in attempts if one.cost)
        assert told.expected_pico == pytest.approx(cost, rel=0.25)


async def test_a_new_version_is_quoted_by_the_others(studio: Studio) -> None:
    """A version that was never asked is taken to answer as those before it."""
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, brands(4), job="before"))
    studio.publish(LINE.replace("You write one line.", "You write one line, in capitals."))
    async with studio.kit() as kit:
        assert (await quote(kit, brands(4))).replies == 4


async def test_a_job_under_way_counts_what_is_left(studio: Studio) -> None:
    """Rows that are done cost nothing more; with --retry-failed those that failed do again."""
    studio.sim.script([{"fault": "reply.refusal", "times": 1}])
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, brands(6), limit=3, concurrency=1))
        assert Status.REFUSED in {result.status for result in results}
        told = await studio.job(kit, brands(8)).quote()
        assert (told.job, told.counts.done, told.counts.to_send) == ("night", 3, 5)
        again = await studio.job(kit, brands(8), retry_failed=True, limit=4).quote()
        assert (again.counts.done, again.counts.to_send) == (2, 4)


async def test_what_may_not_fit_a_cap_does_not_begin(studio: Studio) -> None:
    """Without `until_budget` a worst case above the cap sends nothing; raised, the job goes on."""
    async with studio.kit() as kit:
        told = await quote(kit, brands(8))
        worst = told.figures.worst_pico
        assert worst is not None
        short = Decimal(worst - 1).scaleb(-12)
        with pytest.raises(
            BudgetStop, match=r"'night' may need .* for 8 rows; this job has .* left"
        ) as refused:
            await run_all(kit.batch(REF, brands(8), job="night", budget_usd=short, until_budget=False))
        assert "--until-budget" in f"{refused.value.remedy}"
        assert studio.asked() == 0
        enough = Decimal(worst).scaleb(-12)
        results = await run_all(kit.batch(REF, brands(8), job="night", budget_usd=enough, until_budget=False))
        assert [result.status for result in results] == [Status.OK] * 8


async def test_a_job_partly_done_needs_room_for_the_rest_alone(studio: Studio) -> None:
    """What is paid is in the cap already: only the rows that are left must fit in what is left of it."""
    async with studio.kit() as kit:
        a_row = ((await quote(kit, brands(8))).figures.worst_pico or 0) / 8
        cap = Decimal(round(a_row * 5)).scaleb(-12)
        await run_all(kit.batch(REF, brands(4), job="night", budget_usd=cap, until_budget=False))
        results = await run_all(kit.batch(REF, brands(7), job="night", budget_usd=cap, until_budget=False))
        assert len(results) == 7


async def test_a_cap_of_a_client_counts_its_own_rows(studio: Studio) -> None:
    """Rows of other clients need nothing of it; the budgets of tags are told one by one."""
    studio.configure(tables='[budgets.tags."client=Brand 1"]\nper_day_usd = 0.0000001\n')
    async with studio.kit() as kit:
        told = await quote(kit, brands(3), tags={"client": "@brand"})
        (need,) = told.needs
        assert need.scope.endswith("client=Brand 1")
        assert (need.worst_pico or 0) * 3 == pytest.approx(told.figures.worst_pico or 0, rel=0.01)
        assert told.short == (need,)


async def test_rules_and_keys_decide_what_is_quoted(studio: Studio) -> None:
    """A target that a rule forbids isn't asked; without any key there is nothing to quote."""
    studio.configure(tables='[rules."client=Brand 1"]\ndeny = ["openai", "gemini"]\n')
    async with studio.kit() as kit:
        told = await quote(kit, brands(3), tags={"client": "@brand"})
    rows = {one.target: one.rows for one in told.targets}
    assert rows[Target("anthropic", "claude-haiku-5-5")] == 3
    assert rows[Target("openai", "gpt-6-luna")] == 2
    (studio.folder / ".env").write_text("")
    async with studio.kit() as kit:
        with pytest.raises(NoUsableKey):
            await quote(kit, brands(3))
