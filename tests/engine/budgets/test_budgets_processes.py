"""Caps over many processes, and over processes that are killed at the worst moments."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from budgets_worker import BUDGETS, CLIENTS, PERIOD, POINTS, ROWS
from studio import Studio, assert_books_agree, attempts_of, run_all, until
from waiting import HANGS_S

from promptkit.ledger.ledger import Ledger
from promptkit.routing.budgets import scopes_of
from promptkit.types import AttemptState, Status

WORKER = Path(__file__).with_name("budgets_worker.py")
CAPS = 'per_day_usd = 1\nper_month_usd = 2\n[budgets.tags."client=barly"]\nper_day_usd = 1'


def test_eight_processes_of_200_calls_never_pass_a_cap(tmp_path: Path, blank_database: Path) -> None:
    """8 processes with 200 calls under way in each spend every cap to its end and pass none."""
    database = tmp_path / "promptkit.db"
    shutil.copy(blank_database, database)
    command = [sys.executable, "-W", "error", str(WORKER), "spend", str(database)]
    crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]  # noqa: S603 - our own
    said = [process.communicate(timeout=HANGS_S)[0].split() for process in crowd]
    assert said == [["ready", "done"]] * 8
    with Ledger.open(database) as ledger:
        total = ledger.reports.spent_total()
        records = {record.scope: record for record in ledger.reports.budgets()}
        assert total.unknown == 0
        for client in CLIENTS:
            for scope in scopes_of(BUDGETS, {"client": client}, PERIOD, "job:1"):
                record = records[scope.key]
                assert scope.cap_pico is not None
                assert (record.reserved_pico, record.over_pico) == (0, 0)
                assert record.spent_pico <= scope.cap_pico
        day = records[f"day:{PERIOD.day}"]
        assert day.spent_pico == records[f"month:{PERIOD.month}"].spent_pico == total.charged_pico
        assert (day.cap_pico or 0) - day.spent_pico < 400  # no room for another call is left
        assert ledger.quick_check() == ()


@pytest.mark.parametrize("point", POINTS)
async def test_the_books_agree_after_a_kill(point: str, studio: Studio) -> None:
    """Killed while a hold is being written, once it is committed, with the request out, with the reply in hand:
    after the sweep nothing is held, what was charged is what is spent, and the job goes on to its end.
    """
    studio.configure(budgets=CAPS)
    if point == "sent":
        studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 3600, "after": 6}])
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), "die", str(studio.folder), point, stderr=subprocess.PIPE
    )
    if point == "sent":
        await until(lambda: studio.asked() > 6 or worker.returncode is not None)
        assert worker.returncode is None
        worker.kill()
    _, errors = await worker.communicate()
    assert worker.returncode == -signal.SIGKILL, errors.decode()
    studio.sim.script([])
    with Ledger.open(studio.folder / "promptkit.db") as ledger:
        assert_spent_is_charged(ledger)
        attempts = attempts_of(ledger)
        unknown = [attempt for attempt in attempts if attempt.state is AttemptState.UNKNOWN]
        # One a slot of concurrency; what was never committed was never sent.
        assert (0 if point == "held" else 1) <= len(unknown) <= 4
        assert all(attempt.charged_pico == attempt.max_cost_pico for attempt in unknown)
        assert studio.billed_pico <= ledger.reports.spent_total().charged_pico
    async with studio.kit() as kit:
        results = await run_all(kit.batch("ad/line", ROWS, job="night", tags={"client": "@client"}))
        assert {result.status for result in results} == {Status.OK}
        assert len(results) == len(ROWS)
        ledger = await kit.session.ledger()
        assert_spent_is_charged(ledger)
        assert_books_agree(ledger, studio)
        assert studio.asked() <= len(ROWS) + len(unknown)  # no other row was sent twice


def assert_spent_is_charged(ledger: Ledger) -> None:
    """Nothing is held, and every scope has spent what its calls' attempts were charged."""
    charged = {"": 0, "barly": 0}
    for logged in ledger.calls.search(limit=10_000):
        charged[""] += logged.money.charged_pico
        if logged.tags.get("client") == "barly":
            charged["barly"] += logged.money.charged_pico
    for record in ledger.reports.budgets():
        assert (record.reserved_pico, record.over_pico) == (0, 0)
        assert record.spent_pico == charged["barly" if "client=barly" in record.scope else ""]
        assert record.spent_pico <= (record.cap_pico or 0)
    assert len(ledger.reports.budgets()) == 3
