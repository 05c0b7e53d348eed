"""One outage played through: a job over the user's own route, and what the simulator saw of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from promptkit.batch import Binding, Record, Wishes
from promptkit.calls import make_reply
from promptkit.config import Settings
from promptkit.errors import AllTargetsFailed, BudgetStop, InputError, NoUsableKey, TemplateError
from promptkit.jobs import Job, JobOptions
from promptkit.ledger import Ledger, RowState
from promptkit.session import Session
from promptkit.simulator import Scenario, Simulator
from promptkit.types import Json, Route, Status

from .clock import FastClock
from .outages import STREAM, Outage
from .stage import address_in, rehearsal
from .tally import Tally, hints_ignored, paid_twice

_LATENCY_MS: Final = 400.0
_CRON_S: Final = 300.0
"""A job whose rows wait is started again after so long, as cron would, while the outage lasts and once after."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to play: a skeleton over a route, for these rows."""

    ref: str
    rows: Sequence[Mapping[str, object]]
    route: Route
    concurrency: int = 4
    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    by_rules: bool = True


@dataclass(frozen=True, slots=True)
class Played:
    """An outage and what came of it."""

    outage: Outage
    tally: Tally


@dataclass(slots=True)
class _Watch:
    """When rows were answered."""

    steady: Callable[[], float]
    began_s: float
    first_s: float | None = None
    last_s: float = 0.0

    def saw(self, status: Status) -> None:
        at_s = self.steady() - self.began_s
        if self.first_s is None and status in (Status.OK, Status.TRUNCATED):
            self.first_s = at_s
        self.last_s = at_s


def play(
    settings: Settings, scenario: Scenario, order: Order, outages: Iterable[Outage], folder: Path
) -> Iterable[Played]:
    """Play outages one after the other, each with empty books and on a clock of its own.

    Args:
        settings: the user's; neither their keys nor their database are used.
        scenario: the simulator's world, of `scenario_for`.
        order: what is asked.
        outages: what goes wrong.
        folder: where the books may stand; to be thrown away.

    Raises:
        PromptKitError: the rows, the skeleton or the rules can't stand.
    """
    for number, outage in enumerate(outages):
        clock = FastClock()
        with asyncio.Runner(loop_factory=clock.loop) as runner:
            database = folder / f"{number}.db"
            yield Played(outage, runner.run(_play(settings, scenario, order, outage, database, clock)))


async def _play(
    settings: Settings, scenario: Scenario, order: Order, outage: Outage, database: Path, clock: FastClock
) -> Tally:
    async with (
        Simulator(order.seed, _LATENCY_MS, scenario, clock=clock.now) as simulator,
        _session(settings, simulator, scenario, database, clock) as session,
    ):
        ledger = await session.ledger()
        await session.engine()
        watch = _Watch(clock.steady, clock.steady())
        async with _going_wrong(simulator, outage):
            work = _stream if outage.kind == STREAM else _work
            ended = await work(session, order, watch, outage)
        return _count(ledger, simulator, order, watch, ended)


@asynccontextmanager
async def _session(
    settings: Settings, simulator: Simulator, scenario: Scenario, database: Path, clock: FastClock
) -> AsyncGenerator[Session]:
    played = rehearsal(settings, database, address_in(simulator, scenario.ports))
    session = Session(played, lambda _: None, clock=clock.now)
    try:
        yield session
    finally:
        await session.aclose()


@asynccontextmanager
async def _going_wrong(simulator: Simulator, outage: Outage) -> AsyncGenerator[None]:
    """The outage, from now until it ends."""
    simulator.script(outage.faults)
    for name in outage.gone:
        await simulator.down(name)
    ending = asyncio.create_task(_end(simulator, outage))
    try:
        yield
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


async def _end(simulator: Simulator, outage: Outage) -> None:
    if outage.ends_s is not None:
        await asyncio.sleep(outage.ends_s)
        simulator.script(())
        for name in outage.gone:
            await simulator.up(name)


async def _work(session: Session, order: Order, watch: _Watch, outage: Outage) -> _Ended:
    """Run the job, and start it again while its rows wait for an outage that passes."""
    options = JobOptions(
        name="drill", tags=order.tags, concurrency=order.concurrency, by_rules=order.by_rules
    )
    while True:
        async with Job(session, order.ref, order.rows, order.route, options) as job:
            async for result in job.results(stored=False):
                watch.saw(result.status)
            rows = (await job.report()).rows
        stop = "" if job.stop is None else job.stop.what
        played_s = watch.steady() - watch.began_s
        if not rows.get(RowState.PENDING) or outage.ends_s is None or played_s > outage.ends_s + _CRON_S:
            return _Ended(rows, stop)
        await asyncio.sleep(_CRON_S)


async def _stream(session: Session, order: Order, watch: _Watch, outage: Outage) -> _Ended:
    """Stream each row as a call of its own, so many at once; none is started again."""
    del outage  # it stays as it is
    skeleton, slots = session.library.load(order.ref, allow_draft=False), asyncio.Semaphore(order.concurrency)
    columns = list(dict.fromkeys(name for row in order.rows for name in row))
    binding = Binding(columns, skeleton.spec.variables, Wishes(tags=order.tags), "the rows")

    async def one(row: Record) -> tuple[RowState, str]:
        tags = binding.tags(row)
        named = session.route(None, None, ref=skeleton.ref, tags=tags) if order.by_rules else order.route
        try:
            values = binding.variables(row)
            skeleton.bind(values)
        except (InputError, TemplateError) as error:
            return RowState.INVALID, str(error)
        try:
            async with slots:
                reply = await make_reply(
                    session,
                    skeleton,
                    values,
                    route=named,
                    tags=tags,
                    cap_pico=None,
                    parent_id=None,
                    listen=lambda _: None,
                )
        except (AllTargetsFailed, BudgetStop, NoUsableKey) as error:
            return RowState.FAILED, str(error)
        watch.saw(reply.status)
        return RowState(reply.status.value), ""

    records = (
        Record(number, number, cast("dict[str, Json]", row)) for number, row in enumerate(order.rows, 1)
    )
    ended = await asyncio.gather(*(one(record) for record in records))
    return _Ended(Counter(state for state, _ in ended), next((why for _, why in ended if why), ""))


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the job ended: its rows by state, and what stopped it."""

    rows: Mapping[RowState, int]
    stop: str


def _count(ledger: Ledger, simulator: Simulator, order: Order, watch: _Watch, ended: _Ended) -> Tally:
    rows, notes, bill = ended.rows, simulator.requests(), cast("dict[str, Any]", simulator.bill())
    answered = sum(rows.get(state, 0) for state in (RowState.OK, RowState.TRUNCATED))
    degraded = rows.get(RowState.DEGRADED, 0)
    money = ledger.spent_total()
    over = sum(
        max(0, one.spent_pico + one.held_pico - one.cap_pico) for one in ledger.budgets() if one.cap_pico
    )
    return Tally(
        rows=sum(rows.values()) - rows.get(RowState.INVALID, 0),
        answered=answered,
        degraded=degraded,
        waiting=rows.get(RowState.PENDING, 0),
        requests=max(len(notes), money.attempts),
        paid_twice=paid_twice(bill["lines"], answered + degraded + rows.get(RowState.REFUSED, 0)),
        over_pico=over + max(0, bill["total_pico"] - money.charged_pico),
        charged_pico=money.charged_pico,
        hints_ignored=hints_ignored(cast("list[dict[str, Any]]", notes), order.concurrency),
        first_s=watch.first_s,
        seconds=watch.last_s,
        stop=ended.stop,
    )
