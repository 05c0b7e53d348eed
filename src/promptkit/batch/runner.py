"""The rows of a job in flight: each pending row becomes a request, and each reply the row's result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing
from hashlib import blake2b
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING

from promptkit.engine.calls import CallRequest, CallResult, failure_of
from promptkit.engine.context import Session
from promptkit.engine.engine import Engine
from promptkit.engine.validate import reply_rules
from promptkit.errors import NoUsableKey, PromptKitError
from promptkit.ledger.records import JobRecord, RowEnd, RowRecord, RowState
from promptkit.types import Call, Route, RowResult, Scope, Status

from .control import (
    DEFAULT_FAIL_RATE,
    Canary,
    NoReply,
    Outages,
    RunMonitor,
    StopSignal,
    canary_failed,
    canary_result,
)
from .options import JobOptions, Pinned
from .output import from_call
from .pack_size import AutoSize
from .packing import Packer, RowRequest, UnsendableRow

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.routing.flow import Plan

_CHECK_S = 0.5

_UNKNOWN = "the outcome is unknown: an earlier request got no reply, and unknown outcomes are not sent again"


class Runner:
    """Sends the pending rows of a job.

    Args:
        session: the open session.
        job: the job in the ledger.
        pinned: its template and routes.
        options: how to run it.
        pending: the rows of this run.
        signal: ends the run early.
    """

    def __init__(
        self,
        session: Session,
        job: JobRecord,
        pinned: Pinned,
        options: JobOptions,
        pending: PendingRows,
        signal: StopSignal,
    ) -> None:
        self._session = session
        self._job = job
        self._pinned = pinned
        self._options = options
        self._pending = pending
        self._signal = signal
        ledger = pending.ledger
        self._monitor = RunMonitor(session, ledger, job, options, pending.count, signal)
        self._packer = Packer(session, options.pack, AutoSize(session, pinned, ledger), signal)
        self._outages = Outages(pinned.route.outage_s, session.now())
        self._exhausted: set[str] = set()
        """Caps on a tag that are exhausted: rows under them stay pending, the others continue."""

    async def results(self) -> AsyncGenerator[RowResult]:
        """Run; yield each row's result as it ends. A slow reader slows the rows down.

        Raises:
            NoUsableKey: no target of the route has a usable key.
            Unpriced: a target has no price, and there is a budget.
            LedgerError: the ledger is not writable; nothing more is sent.
        """
        _, plan = self._route(self._options.all_rows_tags)
        engine = await self._session.engine()
        if self._scopes({}):
            self._session.check_priced(engine, plan)
        if self._options.canary:
            await self._mark_canary(self._options.canary)
        for rows in self._phases():
            async with aclosing(self._send(engine, rows)) as results:
                async for result in results:
                    yield result
        self._packer.report()

    async def _mark_canary(self, size: int) -> None:
        """Make the first pending rows the canary, unless the job has one."""
        ledger = self._pending.ledger
        if not ledger.jobs.canary_counts(self._job.id):
            await ledger.jobs.mark_canary([row.id for row in islice(self._pending, size)])

    # Rows: which are sent, and in which order.

    def _phases(self) -> Iterator[Iterator[RowRecord]]:
        """Yield the rows to send: the canary, then the others, then those that got no reply in an outage."""
        if self._options.canary != 0:
            if self._check_canary() is Canary.PENDING:
                yield self._rows(canary=True)
            while self._outages.retried and self._check_canary() is Canary.PENDING:
                yield self._rows(canary=True)
            if self._check_canary() is not Canary.PASSED:
                return
        yield self._rows()
        while self._outages.retried and not self._signal.halted:
            yield self._rows()

    def _check_canary(self) -> Canary:
        """Return the result of the canary; end the run if it failed."""
        rows = self._pending.ledger.jobs.canary_counts(self._job.id)
        rate = DEFAULT_FAIL_RATE if self._options.max_fail_rate is None else self._options.max_fail_rate
        result = canary_result(rows, rate)
        if result is Canary.FAILED:
            self._signal.stop(canary_failed(self._job.name, rows, rate))
        return result

    def _rows(self, *, canary: bool = False) -> Iterator[RowRecord]:
        """Yield the pending rows of one phase until the run is halted or its limit is reached."""
        self._outages.retried = 0
        rows = iter(self._pending)
        if canary:
            pending = self._pending.ledger.jobs.canary_counts(self._job.id)[RowState.PENDING]
            rows = islice((row for row in rows if row.canary), pending)
        for row in rows:
            if self._signal.halted or self._pending.limit == 0:
                return
            if self._pending.limit is not None:
                self._pending.limit -= 1
            yield row

    async def _send(self, engine: Engine, rows: Iterator[RowRecord]) -> AsyncGenerator[RowResult]:
        """Send rows, so many at once; yield the results as the rows end."""
        results: asyncio.Queue[RowResult | None] = asyncio.Queue(self._monitor.concurrency)
        packs = self._packer.packs(self._requests(rows))
        workers = Workers(lambda: self._work(engine, packs, results))
        watching = asyncio.create_task(self._watch(workers))  # first: a deadline may have passed already
        workers.grow(self._monitor.concurrency)
        ending = asyncio.create_task(workers.end_results(results))
        try:
            while (result := await results.get()) is not None:
                self._monitor.row_ended()
                yield result
            await ending
        except GeneratorExit:
            # The calls in flight will be paid even if nobody reads their results: wait for them and record them.
            self._signal.halt()
            while await results.get() is not None:
                pass
            raise
        finally:
            if not ending.done():
                self._signal.halt()
            await workers.cancel(watching, ending)

    async def _watch(self, workers: Workers) -> None:
        """Apply a cancellation and the deadline, until they end the run."""
        while not self._monitor.check():
            workers.grow(self._monitor.concurrency)
            await asyncio.sleep(_CHECK_S)

    # Requests: what is sent for a row.

    def _requests(self, rows: Iterator[RowRecord]) -> Iterator[RowRequest | UnsendableRow]:
        """Yield the rows with their requests; rows under an exhausted cap or without a target stay pending."""
        for row in rows:
            scopes = self._scopes(row.tags)
            if not self._exhausted.isdisjoint(scope.key for scope in scopes):
                continue
            if row.unknowns and not self._options.resend_unknown:
                yield row, _UNKNOWN
                continue
            try:
                yield row, self._request(row, scopes)
            except NoUsableKey as error:
                self._signal.note(error)
            except PromptKitError as error:
                yield row, error.message

    def _request(self, row: RowRecord, scopes: tuple[Scope, ...]) -> CallRequest:
        template = self._pinned.template
        route, plan = self._route(row.tags)
        variables = template.bind(row.variables or {})
        prompt = template.render(variables, prefix=True)
        return CallRequest(
            id=self._session.ids(),
            call=Call(prompt, self._session.params(template, route), template.spec.output),
            plan=plan,
            route=route.name,
            scopes=scopes,
            tags=row.tags,
            variables=variables,
            parent_id=row.parent_call_id,
            deliverable=row.deliverable,
            job_id=row.job_id,
            row_id=row.id,
            rules=reply_rules(template, variables, self._options.read),
            cache_s=route.cache_s if self._options.cache_s is None else self._options.cache_s,
        )

    def _route(self, tags: Mapping[str, str]) -> tuple[Route, Plan]:
        return self._pinned.plan(
            self._session, tags, resend_unknown=self._options.resend_unknown, fastest=self._monitor.fastest
        )

    def _scopes(self, tags: Mapping[str, str]) -> tuple[Scope, ...]:
        return self._session.scopes(f"job:{self._job.id}", self._options.cap_pico, tags)

    # Results: what a reply, or none, means for a row.

    async def _work(
        self,
        engine: Engine,
        packs: Iterator[list[RowRequest] | UnsendableRow],
        results: asyncio.Queue[RowResult | None],
    ) -> None:
        """Send pack after pack. An error halts the run; the other workers finish their calls."""
        try:
            for pack in packs:
                if not await self._outage_is_over():
                    return
                if isinstance(pack, tuple):
                    row, reason = pack
                    outcomes = self._unsendable(row, reason)
                else:
                    outcomes = self._send_pack(engine, pack)
                async with aclosing(outcomes):
                    async for row, result in outcomes:
                        if row.canary and self._options.canary != 0:
                            self._check_canary()
                        if result is not None:
                            await results.put(result)
        except BaseException:
            self._signal.halt()
            raise

    async def _outage_is_over(self) -> bool:
        """Wait until the end of an outage; return False if the run was halted meanwhile."""
        while not self._signal.halted and (wait_s := self._outages.resumes_s - self._session.now()) > 0:  # noqa: ASYNC110 - halted from many sides
            await asyncio.sleep(min(wait_s, _CHECK_S))
        return not self._signal.halted

    async def _unsendable(
        self, row: RowRecord, reason: str
    ) -> AsyncGenerator[tuple[RowRecord, RowResult | None]]:
        """Record that a row can't be sent: it fails, and only it."""
        now_us = int(self._session.now() * 1e6)
        await self._pending.ledger.jobs.end_row(RowEnd(row.id, Status.FAILED, now_us, None, reason))
        yield row, RowResult(row.position + 1, Status.FAILED, error=reason, cells=row.passthrough or {})

    async def _send_pack(
        self, engine: Engine, pack: list[RowRequest]
    ) -> AsyncGenerator[tuple[RowRecord, RowResult | None]]:
        """Send a pack; yield its rows with their results, None if a row stays pending."""
        began_s = self._session.now()
        async with aclosing(self._packer.send(engine, pack)) as calls:
            async for row, request, call in calls:
                yield row, await self._record_outcome(row, request, call, began_s)

    async def _record_outcome(
        self, row: RowRecord, request: CallRequest, call: CallResult, began_s: float
    ) -> RowResult | None:
        """Return the row's result, or None if the row stays pending.

        A row stays pending if no target replied or a cap refused it. A cap on a single tag affects
        only the rows under it; any other cap halts the run.
        """
        if call.outage:
            return await self._record_no_reply(row, request, call, began_s)
        if call.row_stays:
            self._signal.note(failure_of(call))
            if call.refused_by is not None and call.refused_by not in self._shared_caps():
                self._exhausted.add(call.refused_by)
            else:
                self._signal.halt()
            return None
        self._outages.reply(self._session.now())
        return from_call(row, call, request.call.prompt.ref)

    async def _record_no_reply(
        self, row: RowRecord, request: CallRequest, call: CallResult, began_s: float
    ) -> RowResult | None:
        """Send a row once more later, end the run, or let the row fail after all."""
        now_s = self._session.now()
        next_step = self._outages.no_reply(row.id, began_s, now_s, call.retry_at_s)
        if next_step is NoReply.FAIL:
            end = RowEnd(row.id, call.status, int(now_s * 1e6), call.id, call.why)
            await self._pending.ledger.jobs.end_row(end)
            return from_call(row, call, request.call.prompt.ref)
        if next_step is NoReply.STOP:
            self._signal.stop(failure_of(call))
            return None
        if self._pending.limit is not None:
            self._pending.limit += 1
        if self._outages.resumes_s > now_s:
            self._session.notice(self._outages.notice(self._session.settings.timezone, call.why))
        return None

    def _shared_caps(self) -> frozenset[str]:
        """The caps that all rows count under."""
        return frozenset(scope.key for scope in self._scopes(self._options.all_rows_tags))


class Workers:
    """Tasks that share the same work.

    Args:
        work: what each of them does until nothing is left.
    """

    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._work = work
        self._tasks: list[asyncio.Task[None]] = []

    def grow(self, count: int) -> None:
        """Start tasks until there are so many."""
        while len(self._tasks) < count:
            self._tasks.append(asyncio.create_task(self._work()))

    async def end_results(self, results: asyncio.Queue[RowResult | None]) -> None:
        """Wait for all tasks, those started meanwhile included; then end the results.

        Raises:
            BaseException: the error of the first task that failed.
        """
        try:
            while running := [task for task in self._tasks if not task.done()]:
                await asyncio.wait(running)
        finally:
            await results.put(None)
        for task in self._tasks:
            task.result()

    async def cancel(self, *others: asyncio.Task[None]) -> None:
        """Cancel all tasks, and others with them."""
        tasks = (*self._tasks, *others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class PendingRows:
    """The pending rows that a run sends, in the order of the input.

    Attributes:
        ledger: where they are.
        count: how many rows the run sends, as counted at its start.
        limit: how many more rows the run may send; None: all.
        row_ids: the rows of the sample; None: all rows.
    """

    def __init__(self, ledger: Ledger, job: JobRecord, options: JobOptions) -> None:
        self.ledger = ledger
        self._job_id = job.id
        self.limit = options.limit
        self.row_ids: frozenset[int] | None = None
        if options.sample is None:
            pending = ledger.jobs.row_counts(job.id).get(RowState.PENDING, 0)
        else:
            self.row_ids = sample(ledger.jobs.row_keys(job.id), options.sample, options.seed)
            pending = sum(row_id in self.row_ids for row_id in ledger.jobs.pending_ids(job.id))
        self.count = pending if options.limit is None else min(pending, options.limit)

    def __iter__(self) -> Iterator[RowRecord]:
        for row in self.ledger.jobs.pending_rows(self._job_id):
            if self.row_ids is None or row.id in self.row_ids:
                yield row


def sample(rows: Iterable[tuple[int, str, int]], count: int, seed: int) -> frozenset[int]:
    """Choose rows at random.

    The choice depends on each row's key and the seed alone. It is the same in any order of the
    input, and a row more or less changes it by one row at most.

    Args:
        rows: the id, key and ordinal of each row.
        count: how many; all if there are fewer.
        seed: chooses others.

    Returns:
        The ids of the chosen rows.
    """

    def rank(row: tuple[int, str, int]) -> bytes:
        _, key, ordinal = row
        return blake2b(f"{seed}\0{key}\0{ordinal}".encode("utf-8", "surrogatepass"), digest_size=12).digest()

    return frozenset(row_id for row_id, _, _ in nsmallest(count, rows, key=rank))
