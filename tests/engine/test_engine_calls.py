"""Single calls through the engine: cancelled, blocked, broken, large, degraded, and on the embedded model."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from studio import ALL, GEMINI, OPENAI, REF, Studio, assert_books_agree, attempts_of, brands, run_all, until

from promptkit.errors import AllTargetsFailed, BudgetStop, LedgerError, NoUsableKey
from promptkit.ledger.records import RowState
from promptkit.providers.local_weights import weights_path
from promptkit.simulator.scenario import Scenario
from promptkit.simulator.server import Simulator
from promptkit.types import AttemptState, Basis, Fault, Status

pytestmark = pytest.mark.virtual_time


def calls_of(studio: Studio) -> list[tuple[Any, ...]]:
    """Status and error of every call, straight from the file."""
    connection = sqlite3.connect(studio.folder / "promptkit.db")
    try:
        return connection.execute("SELECT status, error FROM calls ORDER BY id").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("target", ALL)
async def test_each_provider_as_first_target(studio: Studio, target: str) -> None:
    """A call on each of the three providers gives text, usage, cost and its request's id; the bill agrees."""
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Barly"}, targets=[target], tags={"client": "barly"})
        assert (str(reply.target), reply.status, len(reply.attempts)) == (target, Status.OK, 1)
        assert reply.text
        assert reply.usage is not None
        assert reply.usage.input_tokens > 0 < reply.usage.output_tokens
        assert reply.cost_pico == reply.charged_pico == studio.billed_pico
        assert reply.cost == reply.charged
        [attempt] = attempts_of(await kit.session.ledger())
        assert (attempt.target_number, attempt.number, attempt.state) == (1, 1, AttemptState.OK)
        assert attempt.billed
        assert attempt.request_id
        assert (attempt.max_cost_pico or 0) >= attempt.charged_pico
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_prompt_of_megabytes(studio: Studio) -> None:
    """A body above aiohttp's megabyte is sent like any other."""
    studio.publish(
        "+++\n[variables.notes]\n+++\n{% message 'user' %}{{ notes }}{% endmessage %}\n", "ad/long"
    )
    async with studio.kit() as kit:
        for target in ALL:
            reply = await kit.run("ad/long", {"notes": "note " * 300_000}, targets=[target])
            assert reply.status in (Status.OK, Status.TRUNCATED)
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_cancelled_call_is_recorded(studio: Studio) -> None:
    """A call that is cancelled in flight leaves an unknown attempt, charged at its ceiling, and a closed call."""
    studio.sim.script(["wire.stall"])
    async with studio.kit() as kit:
        call = asyncio.create_task(kit.run(REF, {"brand": "Barly"}))
        await until(lambda: studio.asked() == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        ledger = await kit.session.ledger()
        [attempt] = attempts_of(ledger)
        assert (attempt.state, attempt.fault) == (AttemptState.UNKNOWN, Fault.UNKNOWN_OUTCOME)
        assert attempt.charged_pico == attempt.max_cost_pico
        assert [scope.reserved_pico for scope in ledger.reports.budgets()] == [0] * len(
            ledger.reports.budgets()
        )
        assert calls_of(studio) == [("failed", "stopped while it was under way")]


async def test_a_call_cancelled_between_attempts_is_closed(studio: Studio) -> None:
    """A call that is cancelled while it waits to try again ends in the books, with the attempts it made."""
    studio.configure(targets=ALL[:1], route="max_wait_s = 30")
    studio.sim.script([{"fault": "openai.rate_limit", "retry_after_s": 20}])
    async with studio.kit() as kit:
        call = asyncio.create_task(kit.run(REF, {"brand": "Barly"}))
        ledger = await kit.session.ledger()
        await until(lambda: [a.state for a in attempts_of(ledger)] == [AttemptState.FAILED])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert calls_of(studio) == [("failed", "stopped while it was under way")]


async def test_a_call_cancelled_while_it_waits_for_room(studio: Studio) -> None:
    """A call that waits under a cap and is cancelled leaves nothing behind."""
    studio.configure(targets=ALL[:1], budgets="per_day_usd = 0.0003")
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.5}])
    async with studio.kit() as kit:
        first = asyncio.create_task(kit.run(REF, {"brand": "Barly"}))
        await until(lambda: studio.asked() == 1)
        second = asyncio.create_task(kit.run(REF, {"brand": "Caro"}))
        await asyncio.sleep(0.1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await first).status is Status.OK
        assert studio.asked() == 1
        assert len(attempts_of(await kit.session.ledger())) == 1


async def test_a_row_that_was_cancelled_waits(studio: Studio) -> None:
    """A row in flight when its job is cancelled is still to be done; with --on-unknown fail it has failed."""
    for name, resend, state in (("a", True, RowState.PENDING), ("b", False, RowState.FAILED)):
        studio.sim.script(["wire.stall"])
        before = studio.asked()
        async with studio.kit() as kit:
            job = studio.job(kit, brands(1), name, resend_unknown=resend)
            running = asyncio.create_task(run_all(job))
            await until(lambda before=before: studio.asked() == before + 1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert (await job.report()).rows == {state: 1}
            studio.sim.script([])
            [result] = await run_all(studio.job(kit, brands(1), name, resend_unknown=False))
            assert result.status is Status.FAILED  # an outcome is unknown, and the user wants no second one
            assert studio.asked() == before + 1


async def test_a_call_waits_for_room_that_another_frees(studio: Studio) -> None:
    """Under a cap with room for one call at a time, calls take turns instead of being refused."""
    studio.configure(targets=ALL[:1], budgets="per_day_usd = 0.0006")
    async with studio.kit() as kit:
        replies = await asyncio.gather(*(kit.run(REF, {"brand": f"B{n}"}) for n in range(3)))
        assert [reply.status for reply in replies] == [Status.OK] * 3
        more = (kit.run(REF, {"brand": f"C{n}"}) for n in range(20))
        ended = await asyncio.gather(*more, return_exceptions=True)  # all of them, before the books are read
        stopped = [one for one in ended if isinstance(one, BudgetStop)]
        assert stopped
        assert all("has no room left" in str(one) and one.attempts == () for one in stopped)
        assert all(isinstance(one, BudgetStop) or getattr(one, "status", None) is Status.OK for one in ended)
        assert_books_agree(await kit.session.ledger(), studio)
    assert calls_of(studio)[-1][0] == "failed"


async def test_a_dearer_hop_that_does_not_fit_ends_the_call(studio: Studio) -> None:
    """Money is held anew before each hop; where a dearer target doesn't fit, the call stops with its attempts."""
    studio.configure(targets=["big/big-1", "anthropic/claude-opus-5-5"], route="attempts = 2")
    studio.sim.script([{"fault": "http.503", "provider": "big"}])
    async with studio.kit() as kit:
        with pytest.raises(BudgetStop) as caught:
            await kit.run(REF, {"brand": "Barly"}, budget_usd=Decimal("0.0001"))
        assert [attempt.fault for attempt in caught.value.attempts] == [Fault.TRANSIENT]
    assert studio.asked("anthropic") == 0


async def test_refused_keys(studio: Studio) -> None:
    """Where every key is refused the error says so; each target is told once, and left out from then on."""
    async with Simulator(
        seed=7, scenario=Scenario(keys=dict.fromkeys(("openai", "anthropic", "gemini"), ("other",)))
    ) as sim:
        studio.sim = sim
        studio.configure()
        async with studio.kit() as kit:
            with pytest.raises(NoUsableKey, match="every key was refused") as caught:
                await kit.run(REF, {"brand": "Barly"})
            assert "providers check" in str(caught.value)
            with pytest.raises(NoUsableKey):
                await kit.run(REF, {"brand": "Barly"})
    assert sorted(text.split(" ")[0] for text in studio.said) == sorted(ALL)
    assert studio.asked() == 3


async def test_every_attempt_is_on_the_error(studio: Studio) -> None:
    """What failed carries each attempt with its fault and detail, and when the first target opens again."""
    studio.configure(route="max_wait_s = 0.05")
    studio.sim.script([{"fault": "http.429", "retry_after_s": 600}])
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed, match="3 attempts failed") as caught:
            await kit.run(REF, {"brand": "Barly"})
        assert [str(attempt.target) for attempt in caught.value.attempts] == list(ALL)
        assert all(attempt.fault and attempt.detail for attempt in caught.value.attempts)
        assert "available again at" in str(caught.value)
        health = (await kit.session.engine()).health
        assert all(health.unavailable(attempt.target, kit.session.now()) for attempt in caught.value.attempts)


async def test_a_ledger_that_cannot_be_written_sends_nothing(studio: Studio) -> None:
    """Where an attempt can't be put into the books, its request does not leave."""
    async with studio.kit() as kit:
        (await kit.session.ledger()).close()
        with pytest.raises(LedgerError):
            await kit.run(REF, {"brand": "Barly"})
    assert studio.asked() == 0


async def test_what_a_model_rejects_is_said_once(studio: Studio) -> None:
    """A parameter that the model doesn't take is left out, and the user is told once."""
    studio.publish(
        "+++\n[params]\ntemperature = 0.5\n+++\n{% message 'user' %}Hello{% endmessage %}\n", "ad/warm"
    )
    async with studio.kit() as kit:
        for _ in range(2):
            await kit.run("ad/warm", targets=[OPENAI])
    assert len([text for text in studio.said if "rejects temperature" in text]) == 1


async def test_what_a_model_refuses_is_not_sent(studio: Studio) -> None:
    """Where the model's entry says refuse, nothing is sent, and the call is in the books."""
    studio.publish(
        "+++\n[params]\ntemperature = 0.5\n+++\n{% message 'user' %}Hello{% endmessage %}\n", "ad/warm"
    )
    studio.configure(
        targets=ALL[:1], tables='[[providers.openai.models]]\nid = "gpt-6-luna"\non_reject = "refuse"\n'
    )
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed, match="nothing was sent"):
            await kit.run("ad/warm")
        [result] = await run_all(kit.batch("ad/warm", [{}], job="night"))
        assert result.status is Status.FAILED
    assert studio.asked() == 0
    assert [status for status, _ in calls_of(studio)] == ["failed", "failed"]


async def test_structured_replies(studio: Studio) -> None:
    """A template with an output schema gives the parsed value; a reply that is no JSON gives None."""
    schema = '[output]\ntype = "object"\nrequired = ["hook"]\nadditionalProperties = false\n[output.properties.hook]\ntype = "string"\n'
    studio.publish(f"+++\n{schema}+++\n{{% message 'user' %}}One hook{{% endmessage %}}\n", "ad/json")
    async with studio.kit() as kit:
        reply = await kit.run("ad/json")
        assert isinstance(reply.parsed, dict)
        assert isinstance(reply.parsed["hook"], str)
        [row] = await run_all(kit.batch("ad/json", [{}], job="night"))
        [again] = await run_all(kit.batch("ad/json", [{}], job="night"))
        assert row.parsed == again.parsed
        assert isinstance(row.parsed, dict)
        studio.sim.script(["reply.truncated"])
        cut = await kit.run("ad/json")
        assert (cut.status, cut.parsed) == (Status.TRUNCATED, None)
        [row] = await run_all(kit.batch("ad/json", [{}], job="cut"))
        [again] = await run_all(kit.batch("ad/json", [{}], job="cut"))
        assert row.parsed is again.parsed is None


async def test_ceiling_and_cost_are_of_one_time(studio: Studio) -> None:
    """The ceiling is of what is sent: the model's own limit where a template asks for more."""
    studio.publish(
        "+++\n[params]\nmax_output_tokens = 900000\n+++\n{% message 'user' %}Hello{% endmessage %}\n",
        "ad/more",
    )
    async with studio.kit() as kit:
        await kit.run("ad/more", targets=["big/big-1"])
        [attempt] = attempts_of(await kit.session.ledger())
        assert (attempt.max_cost_pico or 0) < 900_000 * 80_000
        assert (attempt.max_cost_pico or 0) > 32_000 * 80_000
        assert attempt.cost is not None
        assert (attempt.cost.basis, attempt.cost.source) == (Basis.SERVED, "providers/big.toml")


async def test_the_embedded_model(studio: Studio) -> None:
    """The route `demo` answers on the embedded model: real text and usage, no key, no network, cost 0."""
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    if weights_path(os.environ, Path.home()) is None:
        pytest.skip("the weights are not there: promptkit local fetch")
    (studio.folder / ".env").write_text("")
    studio.configure(budgets="per_day_usd = 1")
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Barly"}, route="demo")
        assert reply.text
        assert reply.usage is not None
        assert reply.usage.output_tokens > 0
        assert (reply.cost_pico, reply.charged_pico, str(reply.target)) == (0, 0, "local/smollm2-135m")
    assert studio.asked() == 0


async def test_where_no_target_is_usable_the_error_alone_tells_why(studio: Studio) -> None:
    """The reasons stand in the error; no notice says them before."""
    (studio.folder / ".env").write_text("")
    async with studio.kit() as kit:
        with pytest.raises(NoUsableKey, match="OPENAI_API_KEY"):
            await kit.run(REF, {"brand": "Barly"})
    assert not [text for text in studio.said if "is skipped" in text]


async def test_unusable_targets_are_skipped_and_said_once(studio: Studio) -> None:
    """A target without a key is left out of the plan, and said once."""
    (studio.folder / ".env").write_text("GEMINI_API_KEY=AIzaCanary-gemini-0003\n")
    async with studio.kit() as kit:
        for _ in range(2):
            assert str((await kit.run(REF, {"brand": "Barly"})).target) == GEMINI
    assert len([text for text in studio.said if "is skipped" in text]) == 2
