"""`run --stream`: the text as it comes, in this process and as one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import COMMAND, VALUES, Invoke, make_project, process, simulating, started
from waiting import HANGS_S

from promptkit.ledger.ledger import Ledger
from promptkit.simulator.server import Simulator
from promptkit.types import AttemptState, Status

TARGETS = ("openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "gemini/gemini-2.5-flash-lite")


@pytest.fixture
def stalling(tmp_path: Path, machine: Path) -> Iterator[tuple[Path, Simulator]]:
    """A project whose streams stop in the middle and stay open."""
    del machine
    with simulating(seed=7) as sim:
        sim.script([{"fault": "wire.stall_stream", "times": None}])
        yield make_project(tmp_path / "stalling", sim.url), sim


@pytest.mark.parametrize("target", TARGETS)
def test_the_text_is_that_of_a_whole_reply(invoke: Invoke, project: Path, target: str) -> None:
    """`--stream` prints what `run` prints, says the rest on stderr, and `show` has the time to the first word."""
    del project
    whole = invoke("run", "ugc/hooks", *VALUES, "--target", target)
    ran = invoke("run", "ugc/hooks", *VALUES, "--target", target, "--stream")
    assert (ran.code, ran.out) == (0, whole.out)
    assert ", first word after 0." in ran.err
    assert "first word" not in whole.err
    shown = invoke("show", ran.err.split()[-1], "--json").json()
    assert shown["attempts"][0]["first_byte_s"] > 0
    assert shown["attempts"][0]["estimate"] is None


def test_json_is_one_document(invoke: Invoke, project: Path) -> None:
    """`--stream --json` is refused before anything is sent."""
    del project
    ran = invoke("run", "ugc/hooks", *VALUES, "--stream", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "one document at the end" in ran.err


def test_another_target_answers_unseen(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """A target that fails before its first word leaves no trace on stdout."""
    del project
    sim.script([{"fault": "wire.cut_stream", "provider": "openai", "at": 0.0, "times": None}])
    ran = invoke("run", "ugc/hooks", *VALUES, "--stream", "-q")
    whole = invoke("run", "ugc/hooks", *VALUES, "--target", TARGETS[1], "-q")
    assert (ran.code, ran.out, ran.err) == (0, whole.out, "")


def test_a_text_that_breaks_off_is_exit_5(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """What had come is printed and kept, nothing is sent again, and `show` tells what was estimated."""
    del project
    sim.script([{"fault": "wire.cut_stream", "at": 0.6}])
    before = len(sim.requests())
    ran = invoke("run", "ugc/hooks", *VALUES, "--stream")
    assert (ran.code, len(sim.requests()) - before) == (5, 1)
    assert ran.out.endswith("\n")
    assert "nothing was sent again" in ran.err
    call = ran.err.partition("promptkit show ")[2].split()[0]
    shown = invoke("show", call)
    assert f"--- partial reply ---\n{ran.out}" in shown.out
    assert "~$0." in shown.out
    assert ", up to $0." in shown.out
    (attempt,) = invoke("show", call, "--json").json()["attempts"]
    assert attempt["cost_usd"] is attempt["usage"] is None
    assert attempt["charged_usd"] == attempt["max_cost_usd"]
    assert float(attempt["estimate"]["cost_usd"]) < float(attempt["charged_usd"])
    assert attempt["estimate"]["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_in_mid_text(
    stalling: tuple[Path, Simulator], number: signal.Signals, code: int
) -> None:
    """A signal ends it with its code; the attempt is settled at its ceiling with an estimate, and holds nothing."""
    folder, sim = stalling
    running = started("run", "ugc/hooks", *VALUES, "--stream", cwd=folder)
    assert running.stdout is not None
    # Flushed, though stdout is a pipe and the stream stands still. By the system's own read: Python's
    # would keep in its buffer whatever else had come, which `communicate` doesn't look at.
    first = os.read(running.stdout.fileno(), 1).decode("ascii")
    running.send_signal(number)
    rest, err = running.communicate(timeout=HANGS_S)
    assert (running.returncode, (first + rest)[-1:], "bug" in err) == (code, "\n", False)
    assert "charged at its max cost" in err
    with Ledger.open(folder / "promptkit.db") as ledger:
        call = ledger.calls.get(ledger.calls.search()[0].id)
        assert call is not None
        (attempt,) = call.attempts
        # What had come and was not printed yet is kept, too.
        assert (call.status, (call.text or "").startswith((first + rest)[:-1])) == (Status.FAILED, True)
        assert (attempt.state, attempt.charged_pico) == (AttemptState.UNKNOWN, attempt.max_cost_pico)
        assert attempt.estimate is not None
        assert not any(scope.reserved_pico for scope in ledger.reports.budgets())
        assert int(str(sim.bill()["total_pico"])) <= ledger.reports.budgets()[0].spent_pico


def test_a_reader_that_goes_away(project: Path) -> None:
    """`run --stream | head -c 1` is exit 0 and quiet; the call is read to its end and its cost known."""
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "run", "ugc/hooks", *VALUES, "--stream", "-q"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read(1)
        running.stdout.close()
        assert (running.stderr.read(), running.wait(HANGS_S)) == (b"", 0)
    with Ledger.open(project / "promptkit.db") as ledger:
        (call,) = ledger.calls.search()
        assert (call.status, call.money.unknown) == (Status.OK, 0)


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_disk_is_exit_9(project: Path, buffered: str) -> None:
    """Words that can't be printed are said once; the reply is in the ledger."""
    with Path("/dev/full").open("w") as full:
        ran = process(
            *("run", "ugc/hooks", *VALUES, "--stream", "-q"),
            cwd=project,
            stdout=full,
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )
    assert (ran.code, ran.err.count("No space left on device")) == (9, 1)
    assert "The reply is in the ledger: promptkit show" in ran.err
