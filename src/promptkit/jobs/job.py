"""A job: it pins what it runs, takes its rows in, and turns each into text exactly once.

Everything that must survive the process is in the ledger: what is pinned, which rows there are,
and what became of each. A job that was stopped, whatever stopped it, goes on by being started
again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from promptkit.batch.quote import Quote
from promptkit.errors import PromptKitError, UsageError
from promptkit.ledger import JobRecord, JobState, Money, RowState
from promptkit.session import Session
from promptkit.templates import parse_ref
from promptkit.types import Json, Route, RowResult, TemplateRef

from .ingest import Reader, input_digest
from .keeping import erase_kept_out
from .options import AGAIN, JobOptions
from .output import stored_results
from .pinning import Pinned
from .quoting import Quoter, check_caps
from .remembered import carried_on, plain_options, plain_path
from .runner import Runner
from .sampling import sample
from .source import FileReading, Reading, Rows, Source, source_of
from .starting import Starting, asked_of, check_text_name
from .steering import cancelled

if TYPE_CHECKING:
    from promptkit.ledger import Ledger
    from promptkit.ledger.locks import JobLock


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job as the ledger has it: rows by state, and money over all attempts."""

    name: str
    template: str
    rows: Mapping[RowState, int]
    money: Money

    @property
    def total(self) -> int:
        """Rows of the input."""
        return sum(self.rows.values())

    @property
    def pending(self) -> int:
        """Rows still to be done."""
        return self.rows.get(RowState.PENDING, 0)

    @property
    def failed(self) -> int:
        """Rows that their route did not answer: failed, refused, invalid, degraded."""
        return sum(self.rows.get(state, 0) for state in (*AGAIN, RowState.INVALID))


class Job:
    """A text a row. Use it as an `async with` block: it is locked for this process within.

    Args:
        session: what the process has open.
        ref: the skeleton, as the user names it.
        rows: a file, `-`, or mappings; None where constants and `each` make them.
        route: where calls may go.
        options: the rest.

    Raises:
        UsageError: there is nothing to make rows of.
    """

    wakes = False
    """Whether it goes on with a job that was cancelled: only who says `jobs resume` means to."""

    def __init__(
        self,
        session: Session,
        ref: str | TemplateRef,
        rows: Rows,
        route: Route,
        options: JobOptions,
    ) -> None:
        self._session = session
        self._ref = parse_ref(ref) if isinstance(ref, str) else ref
        if rows is None and not options.each and not options.constants:
            raise UsageError("there are no rows", remedy="Name a table, or make rows with --each or -v.")
        self._source: Source = source_of(rows, options.format)
        self._route = route
        self._options = options
        self._pinned: Pinned | None = None
        self._lock: JobLock | None = None
        self._runner: Runner | None = None
        self._halted = False
        self._chosen: frozenset[int] | None = None
        self.to_do = 0
        """Rows that this run is to make, once it has started."""
        self.reading: Reading | None = None
        """How the input was read this time; None where the job knew it already."""
        self.stop: PromptKitError | None = None
        """Why the job ended before its rows did; what is left waits for the same command."""

    @property
    def pinned(self) -> Pinned:
        """What the job runs, once it has started."""
        if self._pinned is None:
            msg = "the job has not started"
            raise AssertionError(msg)
        return self._pinned

    @property
    def record(self) -> JobRecord:
        """The job in the ledger, once it has started."""
        return self.pinned.job

    @property
    def sampled(self) -> bool:
        """Whether this run is about a sample of its rows."""
        return self._options.sample is not None

    @property
    def cap_pico(self) -> int | None:
        """The hard cap of all its rows together, as given or configured; None for none."""
        own = f"job:{self.record.id}"
        scopes = self._session.scopes(own, self._options.cap_pico)
        return next((scope.cap_pico for scope in scopes if scope.key == own), None)

    @property
    def name(self) -> str:
        """What it is called; `{date}` is the budget day.

        Raises:
            UsageError: its rows are in memory, and it has no name.
        """
        return self._starting().name

    async def report(self) -> JobReport:
        """Where the job stands."""
        ledger = await self._session.ledger()
        job = self.record
        return JobReport(job.name, job.template_ref, ledger.row_counts(job.id), ledger.job_money(job.id))

    async def forget(self, delivered: Path | None = None) -> None:
        """Erase the texts that `[storage]` keeps out, if the job is done.

        While it is open the ledger has them, for the output is made from there. Call it when the
        results were delivered: what is erased can't be written again.

        Args:
            delivered: the file that has them now.
        """
        ledger = await self._session.ledger()
        if not ledger.pending_rows(self.record.id, limit=1):
            await erase_kept_out(ledger, self.record.id, self._session.settings.storage, delivered)

    async def quote(self) -> Quote:
        """What the job would cost and take now: its input is read, nothing is sent or written.

        A job that began already counts only what is left of it.

        Raises:
            PromptKitError: it would not start: template, rows, keys.
        """
        at_hand = self._session.settings.database_path.exists()
        ledger = await self._session.ledger() if at_hand else None
        reading = self._source.read()
        asked = self._starting().asked(ledger)
        reader = Reader(self._session, asked.skeleton, self._source.name, reading, self._options)
        quoter = Quoter(self._session, asked, self._options, ledger)
        await quoter.read(reader.rows())
        reader.tell()
        return quoter.quote(reading.manner if isinstance(reading, FileReading) else "")

    def halt(self) -> None:
        """Send no new rows; what is in flight is awaited and recorded."""
        self._halted = True
        if self._runner is not None:
            self._runner.halt()

    async def __aenter__(self) -> Self:
        """Pin the job, lock it, and take its rows in: all of them before the first call.

        Raises:
            TemplateError: the skeleton can't stand.
            JobConflict: the name belongs to a job of another template.
            InputError: the rows can't be read.
            LockHeld: another process runs the job.
            StoppedEarly: it was cancelled.
            BudgetStop: the worst case of what is left doesn't fit a hard cap (and `until_budget`
                isn't set); nothing was sent.
        """
        ledger = await self._session.ledger()
        starting = self._starting()
        self._pinned = await starting.pin(ledger)
        self._options = carried_on(self._options, self.record)
        self._lock = ledger.lock_job(self.record)
        try:
            self._check_wanted(ledger)
            await self._take_rows_or_leave(ledger, made=starting.made)
            await self._remember(ledger)
            if self._options.retry_failed:
                await ledger.reset_rows(self.record.id, AGAIN)
            self._chosen, self.to_do = self._choose(ledger)
            state = ledger.job_state(self.record.id)
            if state is not JobState.OPEN and ledger.pending_rows(self.record.id, limit=1):
                await ledger.set_job_state(self.record.id, JobState.OPEN)
            if not self._options.until_budget:
                await check_caps(self._session, asked_of(self.pinned), self._options, ledger, self._chosen)
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._halted = False
        if self._lock is not None:
            self._lock.release()

    async def results(self, *, stored: bool = True) -> AsyncGenerator[RowResult[Any]]:
        """Run the job; yields a result a row, new ones as they finish.

        What stops it early is no exception here: see `stop`.

        Args:
            stored: whether to begin with the results that the ledger has already, in order.

        Raises:
            NoUsableKey: no target of the route can be asked.
            Unpriced: a target has no price, and a budget is in force.
        """
        ledger = await self._session.ledger()
        self.stop = None
        if stored:
            for result in stored_results(ledger, self.record, self._options.read):
                yield result
        if ledger.pending_rows(self.record.id, limit=1):
            self._runner = Runner(
                self._session, ledger, self.pinned, self._options, chosen=self._chosen, to_do=self.to_do
            )
            if self._halted:
                self._runner.halt()
            async with aclosing(self._runner.results()) as results:
                async for result in results:
                    yield result
            self.stop = self._runner.stop
        if not ledger.pending_rows(self.record.id, limit=1):
            await ledger.set_job_state(self.record.id, JobState.DONE)

    # ------------------------------------------------------------------ its rows

    def _starting(self) -> Starting:
        return Starting(self._session, self._ref, self._source, self._route, self._options)

    def _choose(self, ledger: Ledger) -> tuple[frozenset[int] | None, int]:
        """The rows that this run is about (None: all), and how many of them it is to make."""
        options, job_id = self._options, self.record.id
        if options.sample is None:
            chosen, waiting = None, ledger.row_counts(job_id).get(RowState.PENDING, 0)
        else:
            names = ledger.row_names(job_id)
            chosen = sample(names, options.sample, options.seed)
            waiting = sum(row_id in chosen for row_id in ledger.pending_ids(job_id))
        return chosen, waiting if options.limit is None else min(waiting, options.limit)

    def _check_wanted(self, ledger: Ledger) -> None:
        if not self.wakes and ledger.job_state(self.record.id) is JobState.CANCELLED:
            raise cancelled(self.record.name)

    async def _remember(self, ledger: Ledger) -> None:
        """Keep how the job runs now, where that has changed."""
        told = plain_options(self._options)
        if any(self.record.options.get(name) != value for name, value in told.items()):
            await ledger.remember_run(self.record.id, told, self.record.output_path)
            self._read_again(ledger)

    async def remember_output(self, out: Path | None, told: Mapping[str, Json]) -> None:
        """Keep where and how the output is written, where that has changed."""
        record, path = self.record, plain_path(out)
        if record.output_path != path or any(record.options.get(name) != kept for name, kept in told.items()):
            ledger = await self._session.ledger()
            await ledger.remember_run(record.id, told, path)

    async def _take_rows_or_leave(self, ledger: Ledger, *, made: bool) -> None:
        """Take the rows in; a job that was made for rows that can't be is none.

        Else the corrected command would go on with what the wrong one pinned: its key, its skeleton.
        """
        try:
            await self._take_rows(ledger)
            check_text_name(self._options, self.record.columns, self.record.schema)
        except PromptKitError:
            if made:
                await ledger.take_back_job(self.record.id)
            raise

    async def _take_rows(self, ledger: Ledger) -> None:
        """Read the input into the ledger, unless the very same file is there already."""
        job = self.record
        if (
            job.ingested_us is not None
            and job.input_sha256 is not None
            and job.input_sha256 == input_digest(self._source.sha256(), self._options)
        ):
            return
        self.reading = self._source.read()
        reader = Reader(self._session, self.pinned.skeleton, self._source.name, self.reading, self._options)
        await ledger.ingest_rows(job.id, reader.rows(), reader.read)
        reader.tell()
        self._read_again(ledger)

    def _read_again(self, ledger: Ledger) -> None:
        """Take the job as the ledger has it now."""
        record = ledger.job(self.record.name)
        if record is not None:
            self._pinned = replace(self.pinned, job=record)
