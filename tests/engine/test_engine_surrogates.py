"""A reply with half of a surrogate pair is paid: it is kept, and its row is not sent again."""

from __future__ import annotations

import pytest
from studio import OPENAI, REF, Studio, assert_books_agree, attempts_of, brands, run_all

from promptkit._util.text import sha256_text
from promptkit.types import AttemptState, Status

HALF = "Half an emoji \ud83d."


@pytest.mark.parametrize("pack", [1, 2])
async def test_half_a_surrogate_pair_in_a_reply(studio: Studio, pack: int) -> None:
    """JSON may hold `\\ud83d` alone: the attempt is closed, the reply kept, and nothing is paid twice."""
    text = HALF if pack == 1 else f'{{"results": [{{"id": "x", "result": "{HALF}"}}]}}'
    studio.configure(targets=[OPENAI])
    studio.sim.script([{"fault": "reply.says", "provider": "openai", "message": text}])
    rows = brands(pack)
    async with studio.kit() as kit:
        results = await run_all(studio.job(kit, rows, pack=pack))
        await run_all(studio.job(kit, rows, pack=pack))
        ledger = await kit.session.ledger()
        attempts = attempts_of(ledger)
        assert_books_agree(ledger, studio)
    assert {result.status for result in results} == {Status.OK}
    assert {attempt.state for attempt in attempts} == {AttemptState.OK}
    assert studio.asked() == len(attempts) == (1 if pack == 1 else 3)


async def test_half_a_surrogate_pair_in_a_single_call(studio: Studio) -> None:
    """The reply reaches the caller as it came; the ledger keeps it readable, with the hash of the whole."""
    studio.configure(targets=[OPENAI])
    studio.sim.script([{"fault": "reply.says", "provider": "openai", "message": HALF}])
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Barly"})
        ledger = await kit.session.ledger()
        [attempt] = attempts_of(ledger)
        call = ledger.calls.get(attempt.call_id)
    assert reply.text == HALF
    assert call is not None
    assert (call.status, call.text, call.text_sha256) == (
        Status.OK,
        HALF.replace("\ud83d", "\ufffd"),
        sha256_text(HALF),
    )
    assert attempt.state is AttemptState.OK
