"""`providers list` shows what is closed, until when and why; `providers reset` opens it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from cli_kit import VALUES, Invoke

from promptkit.cli.views.circuits import skipped_until
from promptkit.engine.context import load_settings
from promptkit.engine.endpoints import accounts_of
from promptkit.ledger.ledger import Ledger
from promptkit.routing.health import STREAK, CircuitKey, CircuitKind, CircuitState
from promptkit.simulator.server import Simulator
from promptkit.types import Fault


def close(folder: Path, **lanes: tuple[CircuitKey, CircuitState]) -> None:
    """Put lanes into the ledger, as a process of the night would."""

    async def learn() -> None:
        with Ledger.open(folder / "promptkit.db") as ledger:
            await ledger.shared.merge_circuits(dict(lanes.values()), time.time())

    asyncio.run(learn())


def accounts_here() -> dict[str, str]:
    """The accounts of the project in the working folder."""
    settings = load_settings()
    return accounts_of(settings.catalog, settings.keys)


@pytest.fixture
def closed(project: Path) -> Path:
    """A key out of credit, another key that was refused, a model half open, one that stumbled twice."""
    accounts = accounts_here()
    later_s, past_s = time.time() + 3600, time.time() - 5
    close(
        project,
        credit=(
            CircuitKey(CircuitKind.TERMINAL, "openai", accounts["openai"]),
            CircuitState(later_s, Fault.QUOTA, "no credit"),
        ),
        other=(
            CircuitKey(CircuitKind.TERMINAL, "anthropic", "abc"),
            CircuitState(later_s, Fault.AUTH, "wrong key"),
        ),
        half=(
            CircuitKey(CircuitKind.HEALTH, "gemini", accounts["gemini"].partition(":")[0], "g"),
            CircuitState(past_s, Fault.TRANSIENT, "was down", STREAK),
        ),
        two=(
            CircuitKey(CircuitKind.HEALTH, "mistral", "", "m"),
            CircuitState(0.0, Fault.TRANSIENT, "stumbled", 2),
        ),
    )
    return project


def test_list_says_what_is_closed_until_when_and_why(closed: Path, invoke: Invoke) -> None:
    """In the morning the first question is why nothing went there."""
    del closed
    ran = invoke("providers", "list")
    assert ran.code == 0
    assert "no credit" in ran.out
    assert "wrong key (with another key or address)" in ran.out
    assert "half-open" in ran.out
    assert "stumbled" not in ran.out


def test_list_as_json(closed: Path, invoke: Invoke) -> None:
    """Each provider with its lanes; a half-open one has no time."""
    del closed
    told = {one["name"]: one["closed"] for one in invoke("providers", "list", "--json").json()}
    assert told["openai"][0]["why"] == "no credit"
    assert told["openai"][0]["model"] is None
    assert told["openai"][0]["until"] > time.time()
    assert told["anthropic"][0]["another_key"]
    assert told["gemini"] == [
        {"model": "g", "circuit": "health", "until": None, "why": "was down", "another_key": False}
    ]
    assert told["mistral"] == []


def test_reset_opens_a_provider(closed: Path, invoke: Invoke, sim: Simulator) -> None:
    """What is opened is asked by the next call; the others stay closed."""
    del closed
    sim.script([])
    ran = invoke("providers", "reset", "openai")
    assert (ran.code, ran.out) == (0, "openai: circuits closed\n")
    assert invoke("providers", "reset", "openai").out == "openai: no circuit was open\n"
    assert invoke("run", "ugc/hooks", *VALUES, "--target", "openai/gpt-6-luna").code == 0
    assert invoke("providers", "reset", "--all", "--json").json()["anthropic"] == 1
    assert invoke("providers", "reset", "--all").out == ""


def test_a_check_that_is_answered_opens_what_waited_for_it(closed: Path, invoke: Invoke) -> None:
    """The account that answers is open again, in its terminal lanes; another key's are not its own."""
    del closed
    says = {
        one["provider"]: one["says"]
        for one in invoke("providers", "check", "openai", "anthropic", "--json").json()
    }
    assert says["openai"].endswith("; its circuit was open, and is closed now")
    assert "closed now" not in says["anthropic"]
    told = {one["name"]: one["closed"] for one in invoke("providers", "list", "--json").json()}
    assert [len(told[name]) for name in ("openai", "anthropic", "gemini")] == [0, 1, 1]
    assert "closed now" not in invoke("providers", "check", "openai").out


def test_a_check_that_fails_opens_nothing(
    project: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was closed stays closed while nobody answers there."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    key = CircuitKey(CircuitKind.TERMINAL, "openai", accounts_here()["openai"])
    close(project, refused=(key, CircuitState(time.time() + 3600, Fault.AUTH, "refused")))
    assert invoke("providers", "check", "openai").code == 4
    assert invoke("providers", "reset", "openai", "--json").json() == {"openai": 1}


def test_a_live_check_asks_whatever_was_met_before(project: Path, invoke: Invoke) -> None:
    """Asked for by hand it is asked: a pause and an outage that others met stay theirs."""
    account = accounts_here()["openai"]
    later_s = time.time() + 3600
    down = CircuitKey(CircuitKind.HEALTH, "openai", account.partition(":")[0], "gpt-6-luna")
    close(
        project,
        down=(down, CircuitState(later_s, Fault.TRANSIENT, "down", STREAK)),
        pause=(
            down._replace(kind=CircuitKind.THROTTLE, account=account),
            CircuitState(later_s, Fault.RATE_LIMIT, "slow"),
        ),
    )
    ran = invoke("providers", "check", "openai", "--live")
    assert (ran.code, "replied in" in ran.out) == (0, True)
    assert invoke("run", "ugc/hooks", *VALUES, "--target", "openai/gpt-6-luna").code != 0


def test_reset_wants_a_name(closed: Path, invoke: Invoke) -> None:
    """Or --all, and not both; a name that is wrong is told with the right one."""
    del closed
    assert invoke("providers", "reset").code == 2
    assert invoke("providers", "reset", "openai", "--all").code == 2
    ran = invoke("providers", "reset", "opnai")
    assert (ran.code, "openai" in ran.err) == (2, True)


def test_list_needs_no_ledger(project: Path, invoke: Invoke) -> None:
    """None is made; one that can't be read is said, and the list comes all the same."""
    (project / "promptkit.db").unlink()
    assert invoke("providers", "list", "openai").code == 0
    assert not (project / "promptkit.db").exists()
    (project / "promptkit.db").write_text("no database")
    ran = invoke("providers", "list", "openai")
    assert (ran.code, "open circuits are unknown" in ran.err) == (0, True)


def test_a_time_is_told_on_the_users_clock() -> None:
    """With its date where that isn't today."""
    from zoneinfo import ZoneInfo

    paris = ZoneInfo("Europe/Paris")
    assert skipped_until(0.0, paris) == "1970-01-01 01:00"
    assert len(skipped_until(time.time(), paris)) == len("07:00:00")
