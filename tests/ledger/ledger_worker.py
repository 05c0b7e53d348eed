"""A process of its own for the tests: `python ledger_worker.py ACTION DATABASE ...`, a line of output when ready."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ledger_making import SOURCE, attempt_end, attempt_start, call_end, call_start

from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import Admitted, Refused
from promptkit.types import Scope

SCOPES = (Scope("job:1", 150_000), Scope("day:2026-11-22", 200_000))


def say(text: str) -> None:
    """A line that the test waits for."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def open_only(path: Path) -> None:
    """Open, write one template, close."""
    with Ledger.open(path) as ledger:
        await ledger.calls.store_templates([SOURCE])
    say("opened")


async def spend(path: Path) -> None:
    """200 at once, each holding and settling, until the cap ends it or the test kills it."""
    with Ledger.open(path) as ledger:
        await ledger.calls.store_templates([SOURCE])
        say("ready")
        await asyncio.gather(*(_spender(ledger) for _ in range(200)))
    say("done")


async def _spender(ledger: Ledger) -> None:
    for turn in range(1_000_000):
        call = call_start()
        attempt = attempt_start(call.id, 100)
        answer = await ledger.calls.begin(attempt, SCOPES, call)
        if isinstance(answer, Refused):
            if not answer.may_free:
                return
            await ledger.calls.wait_for_release(0.2, answer.releases)
            continue
        assert isinstance(answer, Admitted)
        await asyncio.sleep(0.001)
        await ledger.calls.finish(attempt_end(attempt, 60 + turn % 40), call_end(call))


async def hold(path: Path, job: str) -> None:
    """Open one attempt, lock a job, then wait to be killed."""
    ledger = Ledger.open(path)
    await ledger.calls.store_templates([SOURCE])
    record = ledger.jobs.get(job)
    assert record is not None
    with ledger.jobs.lock(record):
        row = next(ledger.jobs.pending_rows(record.id))
        call = call_start(job_id=record.id, row_id=row.id)
        await ledger.calls.begin(attempt_start(call.id, 100), SCOPES, call)
        say("holding")
        await asyncio.sleep(60)


if __name__ == "__main__":
    actions = {"open": open_only, "spend": spend, "hold": hold}
    asyncio.run(actions[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
