"""Health that is shared: what one process learns of a provider, all of them know, through the ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from studio import ALL, ANTHROPIC, OPENAI, REF, Studio, assert_books_agree, until

from promptkit import AsyncPromptKit
from promptkit.engine import limits as standing
from promptkit.engine.endpoints import accounts_of
from promptkit.errors import AllTargetsFailed, LedgerError, NoUsableKey
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.shared import Shared
from promptkit.routing.health import STREAK, CircuitKey, CircuitKind, CircuitState
from promptkit.types import Fault

pytestmark = pytest.mark.virtual_time
ONE = ALL[:1]
OUT_OF_CREDIT = "openai.insufficient_quota"


async def ask(kit: AsyncPromptKit, brand: str = "Barly") -> str:
    """Make one call; the target that answered."""
    return str((await kit.run(REF, {"brand": brand})).target)


async def test_what_one_process_finds_parked_the_others_do_not_ask(studio: Studio) -> None:
    """A provider out of credit is asked once in a night, not once in every process."""
    studio.sim.script([{"fault": OUT_OF_CREDIT, "times": None}])
    for _ in range(3):
        async with studio.kit() as kit:
            assert await ask(kit) == ANTHROPIC
    assert studio.asked("openai") == 1


async def test_a_running_process_learns_within_a_quarter_of_a_second(studio: Studio) -> None:
    """Two processes at work: what one learns binds the other's next call."""
    async with studio.kit() as one, studio.kit() as two:
        assert await ask(one) == await ask(two) == OPENAI
        studio.sim.script([{"fault": OUT_OF_CREDIT, "times": None}])
        assert await ask(one) == ANTHROPIC
        await asyncio.sleep(standing.FRESH_S)
        before = studio.asked("openai")
        assert await ask(two) == ANTHROPIC
        assert studio.asked("openai") == before


async def test_failures_in_a_row_are_counted_over_processes(studio: Studio) -> None:
    """Cron starts a process a call: five of them in a row find a provider down, the sixth doesn't ask it."""
    studio.configure(targets=ALL[:2], route="attempts = 2")
    studio.sim.script([{"fault": "http.503", "provider": "openai", "times": None}])
    for _ in range(STREAK + 3):
        async with studio.kit() as kit:
            assert await ask(kit) == ANTHROPIC
    assert studio.asked("openai") == STREAK


async def test_a_process_that_finds_all_closed_says_until_when_and_why(studio: Studio) -> None:
    """The clear end: nothing is sent, and the message names the time and the reason."""
    studio.configure(targets=ONE)
    studio.sim.script([{"fault": OUT_OF_CREDIT, "times": None}])
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed):
            await kit.run(REF, {"brand": "Barly"})
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed) as caught:
            await kit.run(REF, {"brand": "Barly"})
    assert studio.asked() == 1
    assert f"{OPENAI} is skipped until " in caught.value.message
    assert "available again at" in f"{caught.value.remedy}"


async def test_half_open_sends_one_probe_over_all_processes(studio: Studio) -> None:
    """When a lane's time is over, of sixty calls in three processes one tries it; the others follow it."""
    studio.configure(targets=ONE)
    studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.6}])
    await _close(studio, CircuitState(studio.now() - 1, Fault.TRANSIENT, "it was down", STREAK))
    async with studio.kit() as one, studio.kit() as two, studio.kit() as three:
        calls = [asyncio.create_task(ask(kit, f"B{n}")) for n in range(20) for kit in (one, two, three)]
        await until(lambda: studio.asked() > 0)
        await asyncio.sleep(0.3)
        assert studio.asked() == 1
        assert set(await asyncio.gather(*calls)) == {OPENAI}
        ledger = await one.session.ledger()
        assert ledger.shared.circuits() == {}
        assert_books_agree(ledger, studio)


async def test_a_probe_that_fails_closes_the_lane_for_longer(studio: Studio) -> None:
    """And the call that tried goes on to its next target, the others with it."""
    studio.configure(targets=ALL[:2])
    studio.sim.script([{"fault": "http.503", "provider": "openai", "times": None}])
    await _close(studio, CircuitState(studio.now() - 1, Fault.TRANSIENT, "it was down", STREAK))
    async with studio.kit() as kit:
        assert set(await asyncio.gather(*(ask(kit, f"B{n}") for n in range(10)))) == {ANTHROPIC}
        [state] = (await kit.session.ledger()).shared.circuits().values()
        assert state.failures == STREAK + 1
        assert state.until_s > studio.now() + 20
    assert studio.asked("openai") == 1


async def test_a_probe_that_is_never_sent_is_given_back(studio: Studio) -> None:
    """A cap that refuses the probing call leaves the lane half open for the next one."""
    studio.configure(targets=ONE, budgets="per_day_usd = 0.0000001")
    await _close(studio, CircuitState(studio.now() - 1, Fault.TRANSIENT, "it was down", STREAK))
    async with studio.kit() as kit:
        reply = await asyncio.gather(kit.run(REF, {"brand": "Barly"}), return_exceptions=True)
        assert isinstance(reply[0], Exception)
        ledger = await kit.session.ledger()
        await until(lambda: [state.probe_until_s for state in ledger.shared.circuits().values()] == [0.0])


async def test_reset_opens_a_lane_and_wakes_who_waits_for_it(studio: Studio) -> None:
    """A call that waits for a parked provider goes on at once when somebody opens it by hand."""
    studio.configure(targets=ONE, route="max_wait_s = 60")
    closed = CircuitState(studio.now() + 50, Fault.RATE_LIMIT, "told to wait")
    await _close(studio, closed)
    async with studio.kit() as kit, studio.kit() as other:
        call = asyncio.create_task(ask(kit))
        await asyncio.sleep(0.3)
        assert studio.asked() == 0
        began_s = studio.now()
        assert await (await other.session.ledger()).shared.reset_circuits("openai") == 1
        assert await call == OPENAI
        assert studio.now() - began_s <= standing.FRESH_S


async def test_another_key_is_not_parked_for_the_old_one(studio: Studio) -> None:
    """The auth lane is the key's own: putting a good key into the environment opens it at once."""
    studio.configure(targets=ALL[:2])
    studio.sim.script([{"fault": "openai.unauthorized", "times": None, "key": "sk-canary-openai-0001"}])
    async with studio.kit() as kit:
        assert await ask(kit) == ANTHROPIC
    async with studio.kit() as kit:
        assert await ask(kit) == ANTHROPIC
    assert studio.asked("openai") == 1
    async with studio.kit({"OPENAI_API_KEY": "sk-another-one-0009"}) as kit:
        assert await ask(kit) == OPENAI


async def test_a_wrong_address_parks_nothing_of_the_right_one(studio: Studio) -> None:
    """A typo in a base URL is an outage there, not where the provider really is."""
    studio.configure(targets=ALL[:2], route="attempts = 2")
    async with studio.kit({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}) as kit:
        for n in range(STREAK + 1):
            assert await ask(kit, f"B{n}") == ANTHROPIC
        assert [state.failures for state in (await kit.session.ledger()).shared.circuits().values()] == [
            STREAK
        ]
    async with studio.kit() as kit:
        assert await ask(kit) == OPENAI


async def test_a_refused_key_is_the_reason_the_second_time_too(studio: Studio) -> None:
    """The next run says what the first one said, and asks nobody."""
    studio.configure(targets=ONE)
    studio.sim.script([{"fault": "openai.unauthorized", "times": None}])
    for _ in range(2):
        async with studio.kit() as kit:
            with pytest.raises(NoUsableKey):
                await kit.run(REF, {"brand": "Barly"})
    assert studio.asked() == 1


async def test_a_hint_holds_for_every_call_of_every_process(studio: Studio) -> None:
    """Retry-After: 300 on a 503, obeyed by all that come after (the peers' router: ignored 60 of 60 times)."""
    studio.configure(targets=ALL[:2])
    studio.sim.script([{"fault": "http.503", "provider": "openai", "times": None, "retry_after_s": 300}])
    async with studio.kit() as one, studio.kit() as two:
        for n in range(10):
            assert await ask(one, f"A{n}") == ANTHROPIC
        await asyncio.sleep(standing.FRESH_S)
        for n in range(10):
            assert await ask(two, f"B{n}") == ANTHROPIC
    assert studio.asked("openai") == 1


async def test_a_ledger_that_cannot_be_read_loses_no_reply(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of health gets old; what was paid is written."""

    def broken(_: Ledger) -> object:
        raise LedgerError("the disk failed")

    async with studio.kit() as kit:
        ledger = await kit.session.ledger()
        monkeypatch.setattr(Shared, "circuits", broken)
        assert await ask(kit) == OPENAI
        assert_books_agree(ledger, studio)


async def test_where_all_is_well_nothing_is_written(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health costs a good call no write, and no read of its own: one serves all calls of a quarter of a second."""
    reads: list[float] = []
    lanes = Shared.circuits

    def counted(ledger: Shared) -> object:
        reads.append(studio.now())
        return lanes(ledger)

    monkeypatch.setattr(Shared, "circuits", counted)
    async with studio.kit() as kit:
        for _ in range(3):
            await asyncio.sleep(standing.FRESH_S)
            for n in range(30):
                await ask(kit, f"B{n}")
    assert len(reads) == len(set(reads)) == 3


async def test_the_ledger_keeps_no_key(studio: Studio) -> None:
    """An account is a fingerprint."""
    studio.sim.script([{"fault": "openai.unauthorized", "times": None}])
    async with studio.kit() as kit:
        assert await ask(kit) == ANTHROPIC
        [key] = (await kit.session.ledger()).shared.circuits()
    assert [len(part) for part in key.account.split(":")] == [12, 12]
    for path in (studio.folder / "promptkit.db", studio.folder / "promptkit.db-wal"):
        assert not path.exists() or b"sk-canary" not in path.read_bytes()


async def _close(studio: Studio, state: CircuitState) -> None:
    """Put a health lane into the ledger, as another process would."""
    settings = studio.settings()
    account = accounts_of(settings.catalog, settings.keys)["openai"]
    key = CircuitKey(CircuitKind.HEALTH, "openai", account.partition(":")[0], "gpt-6-luna")
    with Ledger.open(Path(studio.folder / "promptkit.db")) as ledger:
        await ledger.shared.merge_circuits({key: state}, studio.now())
