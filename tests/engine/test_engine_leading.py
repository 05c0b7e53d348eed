"""In a batch that begins alike, one call goes first and the rest follow when it has been answered."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from studio import ANTHROPIC, LINE, OPENAI, REF, Studio, assert_books_agree, attempts_of, brands, run_all

from promptkit.engine.warmup import MAX_FAILURES, WARM_S, Action, PrefixState
from promptkit.types import Status

RULES = "\n".join(
    f"Rule {n}: keep it short, name the product once, promise nothing ({n})." for n in range(90)
)
LONG = LINE.replace("You write one line.", f"You write one line.\n{RULES}")


def test_a_gate_lets_one_lead_and_the_rest_follow() -> None:
    """Cold: one leads, others wait; warm: all follow, until the cache may have forgotten."""
    prefix = PrefixState()
    assert prefix.next_action(0) is Action.WARM_UP
    prefix.begin()
    assert prefix.next_action(1) is Action.WAIT
    prefix.ended(2, warmed_up=True, succeeded=True)
    assert prefix.changed.is_set()
    assert prefix.next_action(2) is prefix.next_action(1 + WARM_S) is Action.SEND
    prefix.ended(1 + WARM_S, warmed_up=False, succeeded=True)
    assert prefix.next_action(2 + WARM_S) is Action.SEND
    assert prefix.next_action(1 + 2 * WARM_S) is Action.WARM_UP


def test_another_leads_where_one_failed_and_then_nobody_waits() -> None:
    """A target that is down isn't tried row by row."""
    prefix = PrefixState()
    for now in range(MAX_FAILURES):
        assert prefix.next_action(now) is Action.WARM_UP
        prefix.begin()
        prefix.ended(now, warmed_up=True, succeeded=False)
    assert prefix.next_action(MAX_FAILURES) is Action.SEND
    prefix.ended(MAX_FAILURES, warmed_up=False, succeeded=False)
    assert prefix.next_action(MAX_FAILURES) is Action.SEND


@pytest.mark.parametrize("target", [OPENAI, ANTHROPIC])
async def test_all_rows_but_the_first_read_the_cache(studio: Studio, target: str) -> None:
    """With eight at once, only one pays for writing; the books say what that saved, and agree with the bill."""
    studio.publish(LONG)
    studio.configure(targets=[target])
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, brands(16), concurrency=8))
        ledger = await kit.session.ledger()
        attempts = attempts_of(ledger)
        assert_books_agree(ledger, studio)
    assert Counter(result.status for result in results) == {Status.OK: 16}
    reading = [attempt for attempt in attempts if attempt.usage and attempt.usage.cache_read_tokens > 1000]
    assert len(reading) == 15
    saved = [attempt.cost.cache_saved_pico for attempt in attempts if attempt.cost]
    assert sum(pico > 0 for pico in saved) == 15
    assert sum(pico < 0 for pico in saved) == 1, "the first one paid more, for writing"


async def test_a_batch_goes_on_where_its_first_calls_fail(studio: Studio) -> None:
    """No row waits for ever, none is lost, and they don't go one by one."""
    studio.publish(LONG)
    studio.configure(targets=[ANTHROPIC, OPENAI])
    await studio.sim.down("anthropic")
    async with studio.kit() as kit, asyncio.timeout(60):
        results = await run_all(studio.job(kit, brands(12), concurrency=6))
    assert Counter(result.status for result in results) == {Status.OK: 12}


async def test_calls_apart_from_a_batch_wait_for_nobody(studio: Studio) -> None:
    """Each is sent at once: what one of them may save isn't worth the time of all."""
    studio.publish(LONG)
    studio.configure(targets=[ANTHROPIC])
    async with studio.kit() as kit:
        replies = await asyncio.gather(*(kit.run(REF, {"brand": f"B{n}"}) for n in range(3)))
        assert all(reply.usage and reply.usage.cache_write_tokens for reply in replies[:1])
    assert studio.asked() == 3
