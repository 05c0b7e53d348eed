"""Processes of their own for the budgets' tests: `python budgets_worker.py spend DATABASE` or `... die FOLDER POINT`."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from promptkit import AsyncPromptKit
from promptkit.config.loading import load
from promptkit.ledger import group
from promptkit.ledger.calls import Calls
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptEnd, AttemptStart, CallEnd, CallStart, Refused
from promptkit.routing.budgets import Budgets, Cap, Caps, period_of, scopes_of
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Cost, Status, Target

DIGEST: Final = "1:sha256:" + "a" * 64
BUDGETS: Final = Budgets(
    day=Cap(100_000),
    month=Cap(300_000),
    tags={("client", "barly"): Caps(Cap(), Cap(45_000)), ("client", "lume"): Caps(month=Cap(35_000))},
)
CLIENTS: Final = ("barly", "lume", "other")
AT_ONCE: Final = 200
NOW: Final = datetime(2026, 11, 22, 1, tzinfo=UTC)
PERIOD: Final = period_of(NOW, ZoneInfo("Europe/Paris"), time(12))
POINTS: Final = ("held", "committed", "sent", "answered")
ROWS: Final = [{"brand": f"Brand {number}", "client": CLIENTS[number % 3]} for number in range(24)]


def say(text: str) -> None:
    """A line that the test waits for."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --------------------------------------------------------------------------- spend


async def spend(path: Path) -> None:
    """200 calls at once, one after the other each, until the caps end them."""
    ids = itertools.count(random.SystemRandom().getrandbits(61))
    with Ledger.open(path) as ledger:
        await ledger.calls.store_templates([StoredSource(DIGEST, "ad/line@1", "A line.", {})])
        say("ready")
        await asyncio.gather(*(_spender(ledger, ids, CLIENTS[place % 3]) for place in range(AT_ONCE)))
    say("done")


async def _spender(ledger: Ledger, ids: itertools.count[int], client: str) -> None:
    scopes = scopes_of(BUDGETS, {"client": client}, PERIOD, "job:1")
    for turn in itertools.count():
        call = CallStart(next(ids), DIGEST, "ad/line@1", "sha256:b", 1, tags={"client": client})
        attempt = AttemptStart(next(ids), call.id, 1, 1, Target("openai", "luna"), 400, 1)
        answer = await ledger.calls.begin(attempt, scopes, call)
        while isinstance(answer, Refused):
            if not answer.may_free:
                return
            await ledger.calls.wait_for_release(0.1, answer.releases)
            answer = await ledger.calls.begin(attempt, scopes, call)
        await asyncio.sleep(0.001)
        charged = 150 + turn % 50 * 5
        end = AttemptEnd(attempt.id, AttemptState.OK, charged, 2, cost=Cost(charged, "test"))
        await ledger.calls.finish(end, CallEnd(call.id, Status.OK, 2))


# ----------------------------------------------------------------------------- die


def die() -> None:
    """As if the power failed."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Burns down once a passing; at its end the process is gone."""

    def __init__(self, passings: int = 7) -> None:
        self._left = passings

    def passed(self) -> None:
        """The point is passed once more."""
        self._left -= 1
        if self._left == 0:
            die()


def arm(point: str) -> None:
    """Make this process die at that point of its 7th call; whether that is `sent`, only who is asked knows."""
    if point == "sent":
        return
    fuse = Fuse()
    begin, finish, store = Calls.begin, Calls.finish, group.store_accounts

    def held(*arguments: Any) -> None:
        store(*arguments)
        fuse.passed()  # held in the open transaction, not committed

    async def begun(*arguments: Any) -> Any:
        answer = await begin(*arguments)
        fuse.passed()
        return answer

    async def answered(*arguments: Any) -> Any:
        fuse.passed()
        return await finish(*arguments)

    where, name, armed = {
        "held": (group, "store_accounts", held),
        "committed": (Calls, "begin", begun),
        "answered": (Calls, "finish", answered),
    }[point]
    setattr(where, name, armed)


async def run_until_dead(folder: Path, point: str) -> None:
    """Run the night's job with the point armed."""
    arm(point)
    settings = load(folder / "promptkit.toml", env={}, cwd=folder, home=folder / "home")
    async with AsyncPromptKit(settings) as kit:
        async for _ in kit.batch("ad/line", ROWS, job="night", tags={"client": "@client"}, concurrency=4):
            pass


if __name__ == "__main__":
    if sys.argv[1] == "spend":
        asyncio.run(spend(Path(sys.argv[2])))
    else:
        asyncio.run(run_until_dead(Path(sys.argv[2]), sys.argv[3]))
