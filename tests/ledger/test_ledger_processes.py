"""Many processes on one database, and processes that are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ledger_making import SOURCE, job_start, row_start
from ledger_worker import SCOPES

from promptkit.errors import LedgerError, LockHeld
from promptkit.ledger.ledger import Ledger

WORKER = Path(__file__).with_name("ledger_worker.py")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(WORKER), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own file


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> int:
    code = process.wait(60)
    assert process.stdout is not None
    process.stdout.close()
    return code


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    end(process)


def test_ten_processes_open_one_new_database(database: Path) -> None:
    """Ten processes that start at once on no database yet all find one, of one schema."""
    crowd = [start("open", database) for _ in range(10)]
    said = [line(process) for process in crowd]
    assert [end(process) for process in crowd] == [0] * 10
    assert said == ["opened"] * 10
    with Ledger.open(database) as ledger:
        assert ledger.calls.stored_source(SOURCE.digest) == SOURCE
        assert ledger.quick_check() == ()
    assert [path.name for path in (database.parent / "promptkit.db-locks").iterdir()] == ["commit"]


def test_caps_hold_through_kill_9(database: Path) -> None:
    """Three processes of 200 calls each, one killed at random: the cap holds and the books agree."""
    crowd = [start("spend", database) for _ in range(3)]
    assert [line(process) for process in crowd] == ["ready"] * 3
    time.sleep(random.uniform(0.1, 0.4))  # any moment will do
    kill(crowd[0])
    assert [line(process) for process in crowd[1:]] == ["done"] * 2
    assert [end(process) for process in crowd[1:]] == [0, 0]
    with Ledger.open(database) as ledger:
        total = ledger.reports.spent_total()
        for scope in SCOPES:
            budget = ledger.reports.budget(scope.key)
            assert budget is not None
            assert (budget.spent_pico, budget.reserved_pico, budget.over_pico) == (total.charged_pico, 0, 0)
            assert scope.cap_pico is not None
            assert budget.spent_pico <= scope.cap_pico
        assert 0 <= total.unknown <= 200
        assert SCOPES[0].cap_pico is not None
        assert total.charged_pico > SCOPES[0].cap_pico - 100
        assert ledger.quick_check() == ()


async def test_what_a_killed_process_held_is_swept(ledger: Ledger, database: Path) -> None:
    """SIGKILL frees the job's lock and, when somebody waits for room, the hold: charged at its ceiling."""
    job = await ledger.jobs.create_or_get(job_start())
    await ledger.jobs.ingest(job.id, [row_start(0)])
    holder = start("hold", database, job.name)
    assert line(holder) == "holding"
    with pytest.raises(LockHeld, match=f"process {holder.pid}(.|\n)*`promptkit jobs watch night`"):
        ledger.jobs.lock(job)
    assert await ledger.shared.sweep() == 0
    kill(holder)
    ledger.jobs.lock(job).release()
    ledger.calls._swept_at = 0  # pyright: ignore[reportPrivateUsage]
    assert await ledger.calls.wait_for_release(0)
    for scope in SCOPES:
        budget = ledger.reports.budget(scope.key)
        assert budget is not None
        assert (budget.spent_pico, budget.reserved_pico) == (100, 0)
    (row,) = ledger.jobs.pending_rows(job.id)
    assert row.unknowns == 1
    assert await ledger.shared.sweep() == 0


async def test_opening_sweeps_too(database: Path) -> None:
    """What a killed process left open is settled when the database is next opened."""
    with Ledger.open(database) as ledger:
        await ledger.calls.store_templates([SOURCE])
        job = await ledger.jobs.create_or_get(job_start())
        await ledger.jobs.ingest(job.id, [row_start(0)])
    holder = start("hold", database, job.name)
    assert line(holder) == "holding"
    kill(holder)
    with Ledger.open(database) as ledger:
        assert ledger.reports.spent_by_job(job.id).charged_pico == 100
        assert ledger.shared.other_owners() == ()


async def test_a_stopped_process_does_not_hang_the_others(database: Path) -> None:
    """A process stopped (Ctrl-Z) in the midst of a commit is named as the trouble; writing goes on after it."""
    script = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    lock = database.parent / "promptkit.db-locks" / "commit"
    with Ledger.open(database, busy_timeout_s=0.2) as ledger:
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(lock), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"held\n"
        for _ in range(2):
            with pytest.raises(LedgerError, match="does not release it"):
                await ledger.calls.store_templates([SOURCE])
        await holder.communicate(b"")
        await ledger.calls.store_templates([SOURCE])
        assert ledger.calls.stored_source(SOURCE.digest) == SOURCE
