"""The rows of a job under way: so many at once, in order, until they are done or something stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from promptkit.calls import failure_of
from promptkit.engine import Engine, Work, judge_of
from promptkit.errors import NoUsableKey, PromptKitError, StoppedEarly
from promptkit.ledger import JobState, RowEnd, RowRecord
from promptkit.session import Session
from promptkit.types import Call, Route, RowResult, Scope, Status

from .options import JobOptions
from .pinning import Pinned
from .results import from_call
from .ways import way_of

if TYPE_CHECKING:
    from promptkit.ledger import Ledger
    from promptkit.routing.flow import Plan

_PAGE: Final = 500
_LOOK_S: Final = 0.5
"""How often a run looks at the clock, and at whether it is still wanted."""
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
    """

    def __init__(self, session: Session, ledger: Ledger, pinned: Pinned, options: JobOptions) -> None:
        self._session = session
        self._ledger = ledger
        self._pinned = pinned
        self._options = options
        self._halted = False
        self._full: set[str] = set()
        """Caps by tag that are used up: rows under them wait, the others go on."""
        self.stop: PromptKitError | None = None
        """What ended it before its rows did."""

    def halt(self) -> None:
        """Take no new rows."""
        self._halted = True

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
        done: asyncio.Queue[RowResult | None] = asyncio.Queue(self._options.concurrency)
        rows = self._rows()
        workers = [
            asyncio.create_task(self._work(engine, rows, done)) for _ in range(self._options.concurrency)
        ]
        ending = asyncio.create_task(_end(workers, done))
        watching = asyncio.create_task(self._watch())
        try:
            while (result := await done.get()) is not None:
                yield result
            await ending
        except GeneratorExit:
            # What is in flight will be paid, whoever still listens: it is awaited and recorded.
            self.halt()
            while await done.get() is not None:
                pass
            raise
        finally:
            self.halt()
            tasks = (*workers, ending, watching)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Look now and then whether another process has cancelled the job."""
        job = self._pinned.job
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._ledger.job_state(job.id) is JobState.CANCELLED:
                self.stop = self.stop or cancelled(job.name)
                self.halt()
                return

    def _rows(self) -> Iterator[RowRecord]:
        """The pending rows in order, page by page, shared by all workers."""
        after, left = -1, self._options.limit
        while page := self._ledger.pending_rows(self._pinned.job.id, after, _PAGE):
            after = page[-1].position
            for row in page:
                if self._halted or left == 0:
                    return
                left = None if left is None else left - 1
                yield row

    async def _work(
        self, engine: Engine, rows: Iterator[RowRecord], done: asyncio.Queue[RowResult | None]
    ) -> None:
        """One worker: row after row. What breaks one lets the others finish what they began."""
        try:
            for row in rows:
                result = await self._make(engine, row)
                if result is not None:
                    await done.put(result)
        except BaseException:
            self.halt()
            raise

    async def _make(self, engine: Engine, row: RowRecord) -> RowResult | None:
        """One row's result; None where the row still waits: the job stops, or its own tags hold it back."""
        skeleton, scopes = self._pinned.skeleton, self._scopes(row.tags)
        if not self._full.isdisjoint(scope.key for scope in scopes):
            return None
        if row.unknowns and not self._options.resend_unknown:
            return await self._failed(row, _UNKNOWN)
        try:
            route, plan = self._way(row.tags)
            bound = skeleton.bind(row.variables or {})
            prompt = skeleton.render(bound, prefix=True)
            judge = judge_of(skeleton, bound)
        except NoUsableKey as cause:
            self.stop = self.stop or cause
            return None
        except PromptKitError as cause:
            return await self._failed(row, cause.what)
        work = Work(
            id=self._session.ids(),
            call=Call(prompt, self._session.params(skeleton, route), skeleton.spec.output),
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
        )
        made = await engine.make(work)
        if made.row_stays:
            self.stop = self.stop or failure_of(made)
            if made.refused_by is not None and made.refused_by not in self._all_rows_scopes():
                self._full.add(made.refused_by)  # rows of other clients can go on
            else:
                self.halt()
            return None
        return from_call(row, made, prompt.ref)

    async def _failed(self, row: RowRecord, why: str) -> RowResult:
        """A row that can't be sent fails alone."""
        now_us = int(self._session.now() * 1e6)
        await self._ledger.end_row(RowEnd(row.id, Status.FAILED, now_us, None, why))
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
            pinned.skeleton.ref.name,
            pinned.route,
            pinned.detours,
            tags,
            resend_unknown=resend,
        )


def cancelled(name: str) -> StoppedEarly:
    """Why a job that was cancelled sends nothing."""
    return StoppedEarly(
        f"job {name} was cancelled", remedy=f"`promptkit jobs resume {name}` goes on with it."
    )


async def _end(workers: list[asyncio.Task[None]], done: asyncio.Queue[RowResult | None]) -> None:
    """When all workers have ended, end the results; raises what the first of them failed with."""
    try:
        await asyncio.wait(workers)
    finally:
        await done.put(None)
    for worker in workers:
        worker.result()
