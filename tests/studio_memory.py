"""A process that measures itself: `python studio_memory.py FOLDER SMALL LARGE` prints its peak after each, in KiB."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from studio import REF

from promptkit import AsyncPromptKit
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.config.loading import load


def rows(count: int) -> Iterator[dict[str, object]]:
    """Rows as a script makes them, a kilobyte each."""
    return ({"brand": f"Brand {number}", "note": "n" * 1_000} for number in range(count))


async def measure(folder: Path, counts: list[int]) -> None:
    """Take in so many rows, send 400 of them, and go on with another job."""
    settings = load(folder / "promptkit.toml", env={}, cwd=folder, home=folder / "home")
    async with AsyncPromptKit(settings) as kit:
        route = kit.session.route()
        for count in counts:
            options = JobOptions(name=f"rows-{count}", limit=400)
            async with Job(kit.session, REF, rows(count), route, options) as job:
                assert len([None async for _ in job.results()]) == 400
            sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1]), [int(each) for each in sys.argv[2:]]))
