"""examples/nightly.py, as a studio would copy it: started by cron, stopped, killed, started again."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cli_kit import Invoke, Ran, holding_back, make_project, simulating, wait_for
from waiting import HANGS_S

from promptkit.simulator.server import Simulator

NIGHTLY = Path(__file__).parents[2] / "examples/nightly.py"
COUNT = 40


def table(folder: Path, count: int = COUNT) -> None:
    lines = (f"Barly,bar {n},runners" if n % 2 else f"Klim,rope {n},parents" for n in range(count))
    (folder / "rows.csv").write_text("\n".join(["brand,product,audience", *lines]) + "\n", encoding="utf-8")


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own example
        [sys.executable, NIGHTLY, "rows.csv", *arguments],
        cwd=folder, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def night(folder: Path, *arguments: str) -> Ran:
    running = started(folder, *arguments)
    out, err = running.communicate(timeout=HANGS_S)
    return Ran(running.returncode, out, err)


def written(folder: Path) -> list[dict[str, str]]:
    with (folder / "hooks.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_night_and_its_report(project: Path, sim: Simulator, invoke: Invoke) -> None:
    """All rows in their order, what each client and deliverable cost, what failed and why, and the command's exit codes."""
    table(project, 6)
    with (project / "rows.csv").open("a", encoding="utf-8") as rows:
        rows.write(f"Klim,{'x' * 2000},parents\n")
    ran = night(project, "--deadline", f"{datetime.now().astimezone() + timedelta(days=1):%Y-%m-%dT%H:%M}")
    assert (ran.code, ran.err.count("\n") <= 2) == (1, True), ran.err
    assert [bool(row["text"]) for row in written(project)] == [True] * 6 + [False]
    assert "7 rows: 1 failed, 0 pending" in ran.out
    assert "client Barly: $0.00" in ran.out
    assert "deliverable rope 4: $0.00" in ran.out
    assert "1 failed: " in ran.out
    assert "jobs show night-" in ran.out
    bill = len(sim.requests())
    assert night(project).code == 1
    assert len(sim.requests()) == bill
    assert {job["job"][:6] for job in invoke("jobs", "list", "--json").json()} == {"night-"}


def test_a_night_that_may_pass_its_budget_does_not_begin(project: Path, sim: Simulator) -> None:
    """Exit 6, with what it may need; nothing is sent."""
    before = len(sim.requests())
    ran = night(project, "--budget", "0.000001")
    assert (ran.code, "may need" in ran.err) == (6, True)
    assert len(sim.requests()) == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_night_that_was_stopped_goes_on_by_the_same_command(
    tmp_path: Path, machine: Path, blank_database: Path, how: signal.Signals
) -> None:
    """Whatever stops it: every row once in the output, none that has a reply is sent again, at most one in flight a slot is."""
    del machine
    with simulating(seed=7, latency=60) as sim, holding_back(20) as held:
        project = make_project(tmp_path / "studio", sim.url)
        (project / "promptkit.db").write_bytes(blank_database.read_bytes())
        table(project)
        running = started(project)
        wait_for(running, lambda: len(sim.requests()) > 20)
        os.kill(running.pid, how)
        held.let_go()
        out, err = running.communicate(timeout=HANGS_S)
        if how is signal.SIGTERM:
            assert running.returncode == 143, err
            assert "next: run the same command again" in out
            assert 0 < len(written(project)) < COUNT
        ran = night(project)
        assert ran.code == 0, ran.err
        rows = written(project)
        asked = len(sim.requests())
    assert [row["product"] for row in rows] == [f"{'bar' if n % 2 else 'rope'} {n}" for n in range(COUNT)]
    assert all(row["text"] for row in rows)
    assert COUNT <= asked <= COUNT + (0 if how is signal.SIGTERM else 16)
