"""A process of its own for the tests: `python studio_worker.py FOLDER JOB START COUNT CONCURRENCY [PACK]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from studio import REF, brands

from promptkit import AsyncPromptKit
from promptkit.config.loading import load
from promptkit.errors import BudgetStop


async def work(folder: Path, job: str, start: int, count: int, concurrency: int, pack: int = 1) -> None:
    """Run a job until it is done, its budget ends, or the test kills it."""
    settings = load(folder / "promptkit.toml", env={}, cwd=folder, home=folder / "home")
    async with AsyncPromptKit(settings) as kit:
        rows = kit.batch(REF, brands(count, start), job=job, concurrency=concurrency, pack=pack)
        try:
            async for result in rows:
                sys.stdout.write(f"{result.number} {result.status}\n")
                sys.stdout.flush()
        except BudgetStop as stop:
            sys.stdout.write(f"stop: {stop.message}\n")


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
