"""The rows of a job under way: so many at once, in order, until they are done or something stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final

from promptkit.engine.calls import CallRequest, CallResult, failure_of
from promptkit.engine.context import Session
from promptkit.engine.engine import Engine
from promptkit.engine.judge import judge_of
from promptkit.errors import NoUsableKey, PromptKitError
from promptkit.ledger.records import RowEnd, RowRecord, RowState
from promptkit.types import Call, Route, RowResult, Scope, Status, TemplateRef

from .control import (
    DEFAULT_FAIL_RATE,
    Outages,
    Steering,
    Turn,
    Verdict,
    failed_early,
    judge,
    waiting_text,
    way_of,
)
from .options import JobOptions, Pinned
from .output import from_call
from .packing import Bundle, Ready, Unfit, make_packer

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.routing.flow import Plan


_LOOK_S: Final = 0.5


_UNKNOWN: Final = (
    "its outcome is unknown: an earlier request was sent and never answered, and such aren't sent again"
)


class Runner:
    """Turns the pending rows of a job into text.

    Args:
        session: what the process has open.
        ledger: where the rows are.
        pinned: what the job runs.
        options: how.
        chosen: the ids of the rows that this run is about; None: all.
        to_do: how many rows it is to make.
    """

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        pinned: Pinned,
        options: JobOptions,
        *,
        chosen: frozenset[int] | None,
        to_do: int,
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._pinned = pinned
        self._options = options
        self._chosen = chosen
        self._crew: Crew | None = None
        self._size = options.concurrency
        self._left = options.limit
        self._steering = Steering(session, ledger, pinned.job, options, to_do, self)
        self._halted = False
        self._packer = make_packer(session, ledger, pinned, options.pack, lambda: self._halted)
        self._outages = Outages(pinned.route.outage_s, session.now())
        self._full: set[str] = set()
        """Caps by tag that are used up: rows under them wait, the others go on."""
        self.stop: PromptKitError | None = None
        """What ended it before its rows did."""

    def halt(self) -> None:
        """Take no new rows."""
        self._halted = True

    def end_with(self, why: PromptKitError) -> None:
        """Take no new rows, and say why."""
        self.stop = self.stop or why
        self.halt()

    def grow(self, size: int) -> None:
        """Have so many rows under way at once."""
        self._size = size
        if self._crew is not None:
            self._crew.grow(size)

    async def results(self) -> AsyncGenerator[RowResult]:
        """Run; yields each row's result as it finishes. A slow reader slows the rows down.

        Raises:
            NoUsableKey: no target of the route can be asked.
            Unpriced: a target has no price, and a budget is in force.
            LedgerError: the ledger can't be written; nothing more is sent.
        """
        _, plan = self._way(self._options.all_rows_tags)
        engine = await self._session.engine()
        if self._scopes({}):
            self._session.check_priced(engine, plan)
        watching = asyncio.create_task(self._steering.watch())
        try:
            async for rows in self._turns():
                async with aclosing(self._made(engine, rows)) as results:
                    async for result in results:
                        yield result
            self._packer.tell()
        finally:
            self.halt()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _turns(self) -> AsyncGenerator[Iterator[RowRecord]]:
        """The rows that may go together: the canary, and where it passes the others."""
        if self._options.canary != 0:
            await self._mark_canary()
            first = True
            while self._judge() is Verdict.WAITING and (first or self._outages.waiting):
                first = False
                yield self._rows(canary=True)
            if self._judge() is not Verdict.PASSED:
                return
        yield self._rows()
        while self._outages.waiting and not self._halted:
            yield self._rows()

    async def _made(self, engine: Engine, rows: Iterator[RowRecord]) -> AsyncGenerator[RowResult]:
        """The results of some rows, as they finish."""
        done: asyncio.Queue[RowResult | None] = asyncio.Queue(self._size)
        bundles = self._packer.bundles(self._ready(rows))
        crew = self._crew = Crew(lambda: self._work(engine, bundles, done), self._size)
        ending = asyncio.create_task(_end(crew, done))
        try:
            while (result := await done.get()) is not None:
                self._steering.made()
                yield result
            await ending
        except GeneratorExit:
            # What is in flight will be paid, whoever still listens: it is awaited and recorded.
            self.halt()
            while await done.get() is not None:
                pass
            raise
        finally:
            if not ending.done():
                self.halt()
            self._crew = None
            await crew.end(ending)

    # ------------------------------------------------------------------ the canary

    async def _mark_canary(self) -> None:
        """Choose the first rows that wait as the canary, unless the input has one."""
        job_id = self._pinned.job.id
        if self._options.canary and not self._ledger.jobs.canary_counts(job_id):
            first = [row.id for row in islice(self._pending(), self._options.canary)]
            await self._ledger.jobs.mark_canary(first)

    def _judge(self) -> Verdict:
        """What the canary says; where it fails, the run ends."""
        rows = self._ledger.jobs.canary_counts(self._pinned.job.id)
        limit = DEFAULT_FAIL_RATE if self._options.max_fail_rate is None else self._options.max_fail_rate
        verdict = judge(rows, limit)
        if verdict is Verdict.FAILED:
            self.end_with(failed_early(self._pinned.job.name, rows, limit))
        return verdict

    # ------------------------------------------------------------------ the rows

    def _rows(self, *, canary: bool = False) -> Iterator[RowRecord]:
        """The rows to send, shared by all workers; of the canary, those that still wait."""
        self._outages.begin_turn()
        rows = self._pending()
        if canary:
            waiting = self._ledger.jobs.canary_counts(self._pinned.job.id)[RowState.PENDING]
            rows = islice((row for row in rows if row.canary), waiting)
        for row in rows:
            if self._halted or self._left == 0:
                return
            if self._left is not None:
                self._left -= 1
            yield row

    def _pending(self) -> Iterator[RowRecord]:
        """The pending rows that this run is about, in order, page by page."""
        for row in self._ledger.jobs.pending_rows(self._pinned.job.id):
            if self._chosen is None or row.id in self._chosen:
                yield row

    def _ready(self, rows: Iterator[RowRecord]) -> Iterator[Ready | Unfit]:
        """The rows with their calls; without those whose own tags hold them back."""
        for row in rows:
            ready = self._prepare(row)
            if ready is not None:
                yield ready

    def _prepare(self, row: RowRecord) -> Ready | Unfit | None:
        """A row with its call; None where it still waits: nobody can be asked, or its own tags hold it back."""
        template, scopes = self._pinned.template, self._scopes(row.tags)
        if not self._full.isdisjoint(scope.key for scope in scopes):
            return None
        if row.unknowns and not self._options.resend_unknown:
            return Unfit(row, _UNKNOWN)
        try:
            route, plan = self._way(row.tags)
            bound = template.bind(row.variables or {})
            prompt = template.render(bound, prefix=True)
            judge = judge_of(template, bound, self._options.read)
        except NoUsableKey as cause:
            self.stop = self.stop or cause
            return None
        except PromptKitError as cause:
            return Unfit(row, cause.message)
        work = CallRequest(
            id=self._session.ids(),
            call=Call(prompt, self._session.params(template, route), template.spec.output),
            plan=plan,
            route=route.name,
            scopes=scopes,
            tags=row.tags,
            variables=bound,
            parent_id=row.parent_call_id,
            deliverable=row.deliverable,
            job_id=row.job_id,
            row_id=row.id,
            judge=judge,
            cache_s=route.cache_s if self._options.cache_s is None else self._options.cache_s,
        )
        return Ready(row, work)

    async def _work(
        self, engine: Engine, bundles: Iterator[Bundle], done: asyncio.Queue[RowResult | None]
    ) -> None:
        """One worker: row after row, or pack after pack. What breaks one lets the others finish what they began."""
        try:
            for bundle in bundles:
                if not await self._outage_over():
                    return
                async with aclosing(self._make(engine, bundle)) as results:
                    async for row, result in results:
                        if row.canary and self._options.canary != 0:
                            self._judge()
                        if result is not None:
                            await done.put(result)
        except BaseException:
            self.halt()
            raise

    async def _make(
        self, engine: Engine, bundle: Bundle
    ) -> AsyncGenerator[tuple[RowRecord, RowResult | None]]:
        """The results of rows that go together; None where one waits: the job stops, or its tags hold it back."""
        if isinstance(bundle, Unfit):
            yield bundle.row, await self._failed(bundle.row, bundle.why)
            return
        began_s = self._session.now()
        async with aclosing(self._packer.make(engine, bundle)) as results:
            async for ready, made in results:
                row = ready.row
                yield row, await self._taken(row, made, ready.work.call.prompt.ref, began_s)

    async def _taken(
        self, row: RowRecord, made: CallResult, ref: TemplateRef, began_s: float
    ) -> RowResult | None:
        """What a call means for its row; None where the row still waits."""
        if made.outage:
            return await self._unanswered(row, made, ref, began_s)
        if made.row_stays:
            self.stop = self.stop or failure_of(made)
            if made.refused_by is not None and made.refused_by not in self._all_rows_scopes():
                self._full.add(made.refused_by)  # rows of other clients can go on
            else:
                self.halt()
            return None
        self._outages.answered(self._session.now())
        return from_call(row, made, ref)

    # ------------------------------------------------------------------ outages

    async def _outage_over(self) -> bool:
        """Wait out the pause of an outage; False where the run was stopped meanwhile."""
        outages = self._outages
        while not self._halted and (pause_s := outages.resumes_s - self._session.now()) > 0:  # noqa: ASYNC110 - stopped from many sides
            await asyncio.sleep(min(pause_s, _LOOK_S))
        return not self._halted

    async def _unanswered(
        self, row: RowRecord, made: CallResult, ref: TemplateRef, began_s: float
    ) -> RowResult | None:
        """A row that no target answered: it comes again, the run stops, or the row fails after all."""
        now_s = self._session.now()
        turn = self._outages.left(row.id, began_s, now_s, made.retry_at_s)
        if turn is Turn.FAILS:
            await self._ledger.jobs.end_row(RowEnd(row.id, made.status, int(now_s * 1e6), made.id, made.why))
            return from_call(row, made, ref)
        if turn is Turn.STOPS:
            self.end_with(failure_of(made))
        else:
            self._left = None if self._left is None else self._left + 1
            self._tell_outage(made.why)
        return None

    def _tell_outage(self, why: str) -> None:
        """Say once an outage what the run waits for."""
        outages = self._outages
        if outages.resumes_s > self._session.now():
            self._session.say(waiting_text(outages, self._session.settings.timezone, why))

    async def _failed(self, row: RowRecord, why: str) -> RowResult:
        """A row that can't be sent fails alone."""
        now_us = int(self._session.now() * 1e6)
        await self._ledger.jobs.end_row(RowEnd(row.id, Status.FAILED, now_us, None, why))
        return RowResult(row.position + 1, Status.FAILED, error=why, cells=row.passthrough or {})

    def _scopes(self, tags: Mapping[str, str]) -> tuple[Scope, ...]:
        return self._session.scopes(f"job:{self._pinned.job.id}", self._options.cap_pico, tags)

    def _all_rows_scopes(self) -> frozenset[str]:
        return frozenset(scope.key for scope in self._scopes(self._options.all_rows_tags))

    def _way(self, tags: Mapping[str, str]) -> tuple[Route, Plan]:
        """The route and the plan of the rows with these tags."""
        pinned, resend = self._pinned, self._options.resend_unknown
        return way_of(
            self._session,
            pinned.template.ref.name,
            pinned.route,
            pinned.detours,
            tags,
            resend_unknown=resend,
            fastest=self._steering.fastest,
        )


async def _end(crew: Crew, done: asyncio.Queue[RowResult | None]) -> None:
    """When all workers have ended, end the results; raises what the first of them failed with."""
    try:
        await crew.wait()
    finally:
        await done.put(None)
    crew.check()


class Crew:
    """So many tasks of the same work.

    Args:
        work: what each does until there is nothing left.
        size: how many begin.
    """

    def __init__(self, work: Callable[[], Coroutine[None, None, None]], size: int) -> None:
        self._work = work
        self._workers: list[asyncio.Task[None]] = []
        self.grow(size)

    def grow(self, size: int) -> None:
        """Be at least so many."""
        while len(self._workers) < size:
            self._workers.append(asyncio.create_task(self._work()))

    async def wait(self) -> None:
        """Wait until all of them have ended, those that come meanwhile, too."""
        while waiting := [worker for worker in self._workers if not worker.done()]:
            await asyncio.wait(waiting)

    def check(self) -> None:
        """Raise what the first of them failed with."""
        for worker in self._workers:
            worker.result()

    async def end(self, *others: asyncio.Task[None]) -> None:
        """End them at once, and other tasks with them."""
        tasks = (*self._workers, *others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
