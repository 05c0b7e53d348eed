"""A job of `AsyncPromptKit`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from promptkit.types import Parsed_co, RowResult

if TYPE_CHECKING:
    from promptkit.batch.job import Job, JobReport
    from promptkit.batch.output import OutputFiles
    from promptkit.batch.quote import Quote
    from promptkit.engine.context import Session


class AsyncJob(Generic[Parsed_co]):
    """A job. Nothing is read or sent before `async for` begins.

    Results come as rows finish; a failed row is a result, too. At most `concurrency` rows are in
    flight, and no row starts while as many results wait to be read: a slow reader slows the job
    down. A job that was stopped continues when one of the same name is iterated again: rows that
    are paid come from the ledger, first and in order.

    Raises:
        StoppedEarly: at the end of the iteration: its deadline or canary ended it.
        BudgetStop: at the end: a hard cap ended it; with `until_budget=False`, before the first row.
        LockHeld: another process runs it.
        PromptKitError: the template, the rows, the keys or the ledger can't be used.
    """

    def __init__(self, job: Job, session: Session, files: OutputFiles, rows: object = None) -> None:
        self._job = job
        self._session = session
        self._files = files
        self._rows = str(rows) if isinstance(rows, str | Path) else None

    @property
    def name(self) -> str:
        """The job's name; `{date}` is the budget day."""
        return self._job.name

    async def __aiter__(self) -> AsyncGenerator[RowResult[Parsed_co]]:
        self._files.check(self._rows)
        async with self._job as job:
            ledger = await self._session.ledger()
            like = await self._files.begin(ledger, job, self._rows) if self._files else None
            try:
                async with aclosing(job.results()) as results:
                    async for result in results:
                        yield result
            except GeneratorExit:  # a caller who leaves early gets the results so far, in the file too
                if like is not None:
                    list(self._files.write(ledger, job, like))
                raise
            if like is not None:
                await asyncio.to_thread(lambda: list(self._files.write(ledger, job, like)))
            await job.forget(self._files.out)
        if self._job.stop is not None:
            raise self._job.stop

    async def quote(self) -> Quote:
        """Return what the job would cost and how long it would take now. It reads the rows and sends nothing."""
        return await self._job.quote()

    async def report(self) -> JobReport:
        """Return the job's rows by state, and its costs. It must have begun."""
        return await self._job.report()

    def halt(self) -> None:
        """Send no new rows; calls in flight are awaited and recorded. Safe from any thread or signal handler."""
        self._job.halt()
