"""One worker of the chaos: `python chaos_worker.py FOLDER SLOT JOBS ROWS SINGLES`. Killed, it is just started again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from promptkit import AsyncPromptKit
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.config.loading import load
from promptkit.errors import BudgetStop, PromptKitError
from promptkit.ledger.records import LogFilter
from promptkit.types import Status

REF: Final = "ad/line"
CLIENTS: Final = ("barly", "lume", "klim")
JOB_SLOTS: Final = 8
SINGLE_SLOTS: Final = 4
SLOTS: Final = JOB_SLOTS + SINGLE_SLOTS
_DONE: Final = (Status.OK, Status.TRUNCATED)


def say(text: str) -> None:
    """A line that the harness reads."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def work_jobs(kit: AsyncPromptKit, slot: int, jobs: int, rows: int) -> bool:
    """The slot's jobs, one after the other; False where something stops them for now."""
    for number in range(jobs):
        name = f"job-{slot}-{number}"
        table = [
            {"brand": f"{name} brand {row}", "client": CLIENTS[row % len(CLIENTS)]} for row in range(rows)
        ]
        failed = True
        while failed:
            options = JobOptions(
                name=name, tags={"client": "@client"}, concurrency=JOB_SLOTS, retry_failed=True
            )
            async with Job(kit.session, REF, table, kit.session.route(), options) as job:
                async for _ in job.results(stored=False):
                    pass
                report = await job.report()
            if job.stop is not None:
                say("budget" if isinstance(job.stop, BudgetStop) else "stopped")
                return False
            failed = report.failed > 0 or report.pending > 0
    return True


async def work_singles(kit: AsyncPromptKit, slot: int, singles: int) -> bool:
    """The slot's single calls that the ledger doesn't have yet; False where something stops them for now."""
    ledger = await kit.session.ledger()
    mine = ledger.calls.search(limit=1_000_000, where=LogFilter(tags={"slot": str(slot)}))
    done = {call.tags["single"] for call in mine if call.status in _DONE}
    waiting = iter([name for name in map(str, range(singles)) if name not in done])
    stopped = False

    async def caller() -> None:
        nonlocal stopped
        for name in waiting:
            tags = {"slot": str(slot), "single": name, "client": CLIENTS[int(name) % len(CLIENTS)]}
            try:
                await kit.run(REF, {"brand": f"single {slot} {name}"}, tags=tags)
            except BudgetStop:
                say("budget")
                stopped = True
                return
            except PromptKitError:
                stopped = True  # it failed: the next round makes it again

    await asyncio.gather(*(caller() for _ in range(SINGLE_SLOTS)))
    return not stopped


async def main(folder: Path, slot: int, jobs: int, rows: int, singles: int) -> None:
    """Round after round, with the configuration as it is then, until everything is answered."""
    while True:
        settings = load(folder / "promptkit.toml", env={}, cwd=folder, home=folder / "home")
        async with AsyncPromptKit(settings) as kit:
            done = await asyncio.gather(work_jobs(kit, slot, jobs, rows), work_singles(kit, slot, singles))
        if all(done):
            say("done")
            return
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:6])))
