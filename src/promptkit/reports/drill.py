"""The drill: a job over the user's own route, once per simulated outage, and what the simulator saw."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from promptkit._util.notices import make_logger
from promptkit.batch.binding import Binding
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.batch.tables import Record
from promptkit.config.settings import Settings
from promptkit.engine.calls import make_reply
from promptkit.engine.context import Session
from promptkit.errors import AllTargetsFailed, BudgetStop, InputError, NoUsableKey, TemplateError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import RowState
from promptkit.reports.drill_outages import STREAM, Outage
from promptkit.reports.drill_results import OutageCounts, OutageResult, hints_ignored, paid_twice
from promptkit.reports.drill_setup import addresses, drill_settings
from promptkit.reports.fast_clock import FastClock
from promptkit.simulator.scenario import Scenario
from promptkit.simulator.server import Simulator
from promptkit.types import Json, Route, Status

_LATENCY_MS = 400.0
_RESTART_S = 300.0
"""A job with pending rows is started again after this time, as cron would, until the outage is over."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill: a template over a route, for these rows.

    `settings` are the user's. Neither their keys nor their database are used. `scenario` is that of
    `scenario_for`.
    """

    settings: Settings
    scenario: Scenario
    ref: str
    rows: Sequence[Mapping[str, object]]
    route: Route
    concurrency: int = 4
    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    by_rules: bool = True

    def run(self, outages: Iterable[Outage], folder: Path) -> Iterator[OutageResult]:
        """Simulate outages one after the other, each with an empty ledger and a clock of its own.

        Args:
            outages: the outages.
            folder: a temporary folder for the databases.

        Raises:
            PromptKitError: the rows, the template or the rules are not valid.
        """
        for number, outage in enumerate(outages):
            clock = FastClock()
            with asyncio.Runner(loop_factory=clock.loop) as runner:
                counts = runner.run(self._simulate(outage, folder / f"{number}.db", clock))
            yield OutageResult(outage, counts)

    async def _simulate(self, outage: Outage, database: Path, clock: FastClock) -> OutageCounts:
        async with Simulator(self.seed, _LATENCY_MS, self.scenario, clock=clock.now) as simulator:
            settings = drill_settings(self.settings, database, addresses(simulator, self.scenario.ports))
            logger = make_logger()
            logger.disabled = True  # failures are expected here
            session = Session(settings, logger, clock=clock.now)
            try:
                ledger = await session.ledger()
                await session.engine()
                times = _ReplyTimes(clock, clock.steady())
                async with _active(outage, simulator):
                    if outage.kind == STREAM:
                        end = await self._stream(session, times)
                    else:
                        end = await self._run_job(session, times, outage)
                return self._count(ledger, simulator, times, end)
            finally:
                await session.aclose()

    async def _run_job(self, session: Session, times: _ReplyTimes, outage: Outage) -> _DrillEnd:
        """Run the job, and start it again while it has pending rows and the outage can end."""
        options = JobOptions(
            name="drill", tags=self.tags, concurrency=self.concurrency, by_rules=self.by_rules
        )
        while True:
            async with Job(session, self.ref, self.rows, self.route, options) as job:
                async for result in job.results(stored=False):
                    times.add(result.status)
                rows = (await job.report()).rows
            stop = "" if job.stop is None else job.stop.message
            may_end = outage.ends_s is not None and times.elapsed_s <= outage.ends_s + _RESTART_S
            if not rows.get(RowState.PENDING) or not may_end:
                return _DrillEnd(rows, stop)
            await asyncio.sleep(_RESTART_S)

    async def _stream(self, session: Session, times: _ReplyTimes) -> _DrillEnd:
        """Stream each row as a call of its own; none is started again."""
        template = session.library.load(self.ref, allow_draft=False)
        slots = asyncio.Semaphore(self.concurrency)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        binding = Binding(columns, template.spec.variables, JobOptions(tags=self.tags), "the rows")

        async def stream_row(row: Record) -> tuple[RowState, str]:
            tags = binding.tags(row)
            route = session.route(None, None, ref=template.ref, tags=tags) if self.by_rules else self.route
            try:
                values = binding.variables(row)
                template.bind(values)
            except (InputError, TemplateError) as error:
                return RowState.INVALID, str(error)
            try:
                async with slots:
                    reply = await make_reply(
                        session,
                        template,
                        values,
                        route=route,
                        tags=tags,
                        cap_pico=None,
                        parent_id=None,
                        listen=lambda _: None,
                    )
            except (AllTargetsFailed, BudgetStop, NoUsableKey) as error:
                return RowState.FAILED, str(error)
            times.add(reply.status)
            return RowState(reply.status.value), ""

        records = (
            Record(number, number, cast("dict[str, Json]", row)) for number, row in enumerate(self.rows, 1)
        )
        ends = await asyncio.gather(*map(stream_row, records))
        return _DrillEnd(Counter(state for state, _ in ends), next((why for _, why in ends if why), ""))

    def _count(
        self, ledger: Ledger, simulator: Simulator, times: _ReplyTimes, end: _DrillEnd
    ) -> OutageCounts:
        rows, journal = end.rows, cast("list[dict[str, Any]]", simulator.requests())
        bill = cast("dict[str, Any]", simulator.bill())
        replied = rows.get(RowState.OK, 0) + rows.get(RowState.TRUNCATED, 0)
        degraded = rows.get(RowState.DEGRADED, 0)
        money = ledger.reports.spent_total()
        over_cap_pico = sum(
            max(0, budget.spent_pico + budget.reserved_pico - budget.cap_pico)
            for budget in ledger.reports.budgets()
            if budget.cap_pico
        )
        return OutageCounts(
            rows=sum(rows.values()) - rows.get(RowState.INVALID, 0),
            replied=replied,
            degraded=degraded,
            pending=rows.get(RowState.PENDING, 0),
            requests=max(len(journal), money.attempts),
            paid_twice=paid_twice(bill["lines"], replied + degraded + rows.get(RowState.REFUSED, 0)),
            over_pico=over_cap_pico + max(0, bill["total_pico"] - money.charged_pico),
            charged_pico=money.charged_pico,
            hints_ignored=hints_ignored(journal, self.concurrency),
            first_reply_s=times.first_s,
            seconds=times.last_s,
            stop=end.stop,
        )


@dataclass(frozen=True, slots=True)
class _DrillEnd:
    """The rows of a job by state, and the reason why it stopped early."""

    rows: Mapping[RowState, int]
    stop: str


@dataclass(slots=True)
class _ReplyTimes:
    """When the first row got a reply, and when the last one ended."""

    clock: FastClock
    began_s: float
    first_s: float | None = None
    last_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """Simulated seconds since the start."""
        return self.clock.steady() - self.began_s

    def add(self, status: Status) -> None:
        """Record that a row ended now."""
        self.last_s = self.elapsed_s
        if self.first_s is None and status in (Status.OK, Status.TRUNCATED):
            self.first_s = self.last_s


@asynccontextmanager
async def _active(outage: Outage, simulator: Simulator) -> AsyncGenerator[None]:
    """Start an outage, and end it at its time or with the block."""
    simulator.script(outage.faults)
    for name in outage.down:
        await simulator.down(name)
    ending = asyncio.create_task(_end_later(outage, simulator))
    try:
        yield
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


async def _end_later(outage: Outage, simulator: Simulator) -> None:
    if outage.ends_s is not None:
        await asyncio.sleep(outage.ends_s)
        simulator.script(())
        for name in outage.down:
            await simulator.up(name)
