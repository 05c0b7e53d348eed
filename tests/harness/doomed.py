"""The `promptkit` command with something wrong at a named point: `python doomed.py WHAT POINT NTH batch ...`.

No hook for this lives in the product: the point is one of its functions, which is wrapped here
before the command runs. At the nth passing the process is gone as by a power cut (`die`), may
write to no file any more (`no-room`, what a limit or a quota does), or its database is read-only.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import wraps
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

COMMAND: Final = Path(sys.executable).with_name("promptkit")
SENT_S: Final = 0.1
"""By then a request is out, and the simulator hasn't answered it."""
ROOM: Final = 512
"""Bytes of a file that may still be written where there is no room: a lock's pid fits."""


class When(Enum):
    """Where in a function the point is."""

    BEFORE = auto()
    AFTER = auto()
    SOON = auto()
    """A moment after it began."""
    ITEM = auto()
    """When it yields."""


@dataclass(frozen=True, slots=True)
class Point:
    """A function of the product, as `module:name`."""

    function: str
    when: When


START: Final = "start"
POINTS: Final = {
    "made": Point("promptkit.ledger.database:upgrade", When.BEFORE),
    "migrated": Point("promptkit.ledger.database:upgrade", When.AFTER),
    "ingesting": Point("promptkit.ledger.jobs:ingest", When.AFTER),
    "ingested": Point("promptkit.ledger.jobs:end_ingest", When.AFTER),
    "hold": Point("promptkit.ledger.group:store_accounts", When.AFTER),
    "open": Point("promptkit.ledger.calls:Calls.begin", When.AFTER),
    "sent": Point("promptkit.engine.attempts:Exchange.send", When.SOON),
    "reply": Point("promptkit.ledger.calls:Calls.finish", When.BEFORE),
    "close": Point("promptkit.ledger.calls:Calls.finish", When.AFTER),
    "sweep": Point("promptkit.ledger.shared:sweep", When.AFTER),
    "done": Point("promptkit.ledger.jobs:Jobs.set_state", When.BEFORE),
    "output": Point("promptkit.batch.output:stored_results", When.ITEM),
    "written": Point("promptkit._util.files:_mode", When.BEFORE),
    "replaced": Point("promptkit._util.files:replacing.__exit__", When.AFTER),
    "commit": Point("promptkit.ledger.group:Group.run", When.BEFORE),
}
"""`hold`, `migrated`, `ingesting`, `ingested` and `sweep` are inside their transactions: held, not committed."""

Action = Callable[[Sequence[Any]], None]


def die(_arguments: Sequence[Any] = ()) -> None:
    """As if the power failed."""
    os.kill(os.getpid(), signal.SIGKILL)


def no_room(_arguments: Sequence[Any]) -> None:
    """From now on no file takes more than `ROOM` bytes: the system refuses, whoever writes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def read_only(arguments: Sequence[Any]) -> None:
    """SQLite refuses to write on the connection of this group commit."""
    arguments[0]._connection.exec_driver_sql("PRAGMA query_only = ON")


def bound(_arguments: Sequence[Any]) -> None:
    """Start anew bound by the modes of files, as everybody but root is."""
    if os.geteuid() == 0:
        drop, override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
        if ctypes.CDLL(None, use_errno=True).prctl(drop, override, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "root's right to write everywhere can't be given back")
    os.execv(COMMAND, [str(COMMAND), *sys.argv[1:]])  # noqa: S606 - our own


ACTIONS: Final[dict[str, Action]] = {"die": die, "no-room": no_room, "read-only": read_only, "bound": bound}


def find(point: Point) -> tuple[Any, str]:
    """Where the point's function is, and its name there."""
    module, _, name = point.function.partition(":")
    owner, _, attribute = name.rpartition(".")
    place = import_module(module)
    return (attrgetter(owner)(place) if owner else place), attribute


def arm(point: Point, nth: int, action: Action) -> None:
    """Wrap the point's function, so that the action happens at its nth passing."""
    place, attribute = find(point)
    setattr(place, attribute, _wrapped(getattr(place, attribute), point.when, nth, action))


def _wrapped(function: Callable[..., Any], when: When, nth: int, action: Action) -> Callable[..., Any]:
    passing = itertools.count(1)

    def passed(arguments: Sequence[Any], *, now: bool) -> None:
        if now and next(passing) == nth:
            if when is When.SOON:
                asyncio.get_running_loop().call_later(SENT_S, action, arguments)
            else:
                action(arguments)

    early = when in {When.BEFORE, When.SOON}

    @wraps(function)
    def plain(*arguments: Any, **options: Any) -> Any:
        passed(arguments, now=early)
        result = function(*arguments, **options)
        passed(arguments, now=when is When.AFTER)
        return result

    @wraps(function)
    async def awaited(*arguments: Any, **options: Any) -> Any:
        passed(arguments, now=early)
        result = await function(*arguments, **options)
        passed(arguments, now=when is When.AFTER)
        return result

    @wraps(function)
    def yielded(*arguments: Any, **options: Any) -> Iterator[Any]:
        for item in function(*arguments, **options):
            passed(arguments, now=True)
            yield item

    if when is When.ITEM:
        return yielded
    return awaited if inspect.iscoroutinefunction(function) else plain


def main() -> None:
    """Arm the point, and be the command."""
    what, name, nth, *arguments = sys.argv[1:]
    sys.argv = ["promptkit", *arguments]
    if name == START:
        ACTIONS[what](())
    else:
        arm(POINTS[name], int(nth), ACTIONS[what])
    from promptkit.cli import main as command

    command()


if __name__ == "__main__":
    main()
