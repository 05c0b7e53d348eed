"""A job: it pins what it runs, reads its rows into the ledger, and gets one result for each row.

The ledger keeps all that must survive the process: what is pinned, the rows, and their results. A
job that stopped, for any reason, continues when it is started once more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from promptkit.engine.context import Session
from promptkit.engine.validate import reply_rules
from promptkit.errors import JobConflict, PromptKitError, TemplateError, UsageError, closest, counted
from promptkit.ledger.records import JobRecord, JobStart, JobState, Money, RowState
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import Json, Route, RowResult, TemplateRef

from .columns import check_text_as
from .control import StopSignal, cancelled
from .input import FileReading, InputReader, MemorySource, Reading, Rows, Source, input_digest, source_of
from .options import (
    RETRIED_STATES,
    JobOptions,
    Pinned,
    job_name,
    pinned_route,
    pinned_rule_routes,
    stored_options,
    stored_params,
    stored_path,
    stored_start,
    with_pinned,
)
from .output import erase_kept_out, stored_results
from .quote import Quote, Quoter, check_caps
from .runner import PendingRows, Runner

if TYPE_CHECKING:
    from promptkit._util.locks import LockFile
    from promptkit.ledger.ledger import Ledger


_NOT_STARTED = "the job has not started"


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job as the ledger has it: rows by state, and money over all attempts."""

    name: str
    template: str
    rows: Mapping[RowState, int]
    money: Money

    @property
    def total(self) -> int:
        """The rows of the input."""
        return sum(self.rows.values())

    @property
    def pending(self) -> int:
        """The rows that have no result yet."""
        return self.rows.get(RowState.PENDING, 0)

    @property
    def failed(self) -> int:
        """The rows that failed, were refused, or are invalid or degraded."""
        return sum(self.rows.get(state, 0) for state in (*RETRIED_STATES, RowState.INVALID))


class Job:
    """One text per row. Use it as an `async with` block, in which it is locked for this process.

    Args:
        session: the open session.
        ref: the template, as the user names it.
        rows: a file, `-`, or mappings; None if constants and `each` make the rows.
        route: where calls may go.
        options: the rest.

    Raises:
        UsageError: there are no rows.
    """

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
        self._source: Source | None = source_of(rows, options.format)
        self._route = route
        self._options = options
        self._pinned: Pinned | None = None
        self._record: JobRecord | None = None
        self._lock: LockFile | None = None
        self._pending: PendingRows | None = None
        self._signal = StopSignal()
        self.reading: Reading | None = None
        """How the input was read this time; None if the job had its rows already."""

    @classmethod
    def resume(cls, session: Session, record: JobRecord, options: JobOptions) -> Self:
        """Return a job as the ledger has it, also if it was cancelled. Its input is not read, and may be gone.

        Args:
            session: the open session.
            record: the job.
            options: how to run it, as `pinned_options` returns it.
        """
        options = replace(options, name=record.name, key_column=record.key_column)
        job = cls(session, record.template_ref, (), pinned_route(record), options)
        job._source = None
        return job

    @property
    def pinned(self) -> Pinned:
        """What the job runs, once it has started."""
        if self._pinned is None:
            raise AssertionError(_NOT_STARTED)
        return self._pinned

    @property
    def record(self) -> JobRecord:
        """The job in the ledger, once it has started."""
        if self._record is None:
            raise AssertionError(_NOT_STARTED)
        return self._record

    @property
    def sampled(self) -> bool:
        """Whether this run sends a sample of the rows."""
        return self._options.sample is not None

    @property
    def to_do(self) -> int:
        """How many rows this run sends, once it has started."""
        return 0 if self._pending is None else self._pending.count

    @property
    def stop(self) -> PromptKitError | None:
        """Why the job ended before its rows; the same command continues with the pending ones."""
        return self._signal.error

    @property
    def cap_pico(self) -> int | None:
        """The hard cap of the whole job, from the options or the configuration; None for none."""
        own = f"job:{self.record.id}"
        scopes = self._session.scopes(own, self._options.cap_pico)
        return next((scope.cap_pico for scope in scopes if scope.key == own), None)

    @property
    def name(self) -> str:
        """The name; `{date}` is the budget day.

        Raises:
            UsageError: the rows are in memory, and the job has no name.
        """
        options = self._options
        if options.name is None and isinstance(self._source, MemorySource):
            raise UsageError(
                "rows in memory need a name for their job",
                remedy='For example job="night-{date}": a job of the same name continues where it stopped.',
            )
        return job_name(options.name, self._ref.name, self._input_name, options.out, self._session.today())

    @property
    def _input_name(self) -> str:
        return "" if self._source is None else self._source.name

    async def quote(self) -> Quote:
        """Return what the job would cost and take now. The input is read; nothing is sent or written.

        A job that has started counts only its remaining rows.

        Raises:
            PromptKitError: the job would not start: template, rows, keys.
        """
        has_ledger = self._session.settings.database_path.exists()
        ledger = await self._session.ledger() if has_ledger else None
        reading = None if self._source is None else self._source.read()
        record = None if ledger is None else ledger.jobs.get(self.name)
        if ledger is not None and record is not None:
            pinned = self._continued(ledger, record)
        else:
            pinned = Pinned(self._template(), self._route, self._rule_routes())
        quoter = Quoter(self._session, pinned, self._options, ledger, record)
        if reading is not None:
            reader = self._reader(reading, pinned.template)
            await quoter.add_input(reader.rows())
            reader.notice()
        elif ledger is not None and record is not None:
            await quoter.add_pending(PendingRows(ledger, record, self._options))
        return quoter.quote(reading.notice if isinstance(reading, FileReading) else "")

    async def __aenter__(self) -> Self:
        """Pin the job, lock it, and read its rows, all of them before the first call.

        Raises:
            TemplateError: the template can't be used.
            JobConflict: the name belongs to a job of another template.
            InputError: the rows can't be read.
            LockHeld: another process runs the job.
            StoppedEarly: it was cancelled.
            BudgetStop: the worst case of the remaining rows exceeds a hard cap, and `until_budget`
                isn't set; nothing was sent.
        """
        ledger = await self._session.ledger()
        created = await self._pin(ledger)
        self._options = with_pinned(self._options, self.record)
        self._lock = ledger.jobs.lock(self.record)
        try:
            await self._read_rows(ledger, created=created)
            await self._store_options(ledger)
            if self._options.retry_failed:
                await ledger.jobs.reset_rows(self.record.id, RETRIED_STATES)
            self._pending = PendingRows(ledger, self.record, self._options)
            closed = ledger.jobs.state(self.record.id) is not JobState.OPEN
            if closed and ledger.jobs.has_pending_rows(self.record.id):
                await ledger.jobs.set_state(self.record.id, JobState.OPEN)
            if not self._options.until_budget:
                await check_caps(self._session, self.pinned, self._options, self.record, self._pending)
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal.halted = False
        if self._lock is not None:
            self._lock.release()

    # The start: pin the template and the routes.

    async def _pin(self, ledger: Ledger) -> bool:
        """Find the job of this name, or create it; return whether it was created."""
        record = ledger.jobs.get(self.name)
        if record is None:
            template, rule_routes = self._template(), self._rule_routes()
            self._check_text_as(template.spec.output)
            reply_rules(
                template, {}
            )  # a schema that no reply can be checked against is refused before there is a job
            await self._session.remember(template)
            start = JobStart(
                id=self._session.ids(),
                name=self.name,
                template_digest=template.digest,
                template_ref=str(template.ref),
                route=self._route.name,
                created_us=int(datetime.now(UTC).timestamp() * 1e6),
                params=stored_params(self._session.params(template, self._route)),
                schema=template.spec.output,
                options={
                    "checks": template.spec.checks is not None,
                    **stored_start(self._route, rule_routes, self._options),
                },
                key_column=self._options.key_column,
                input_path=self._input_name,
                output_path=stored_path(self._options.out),
            )
            record = await ledger.jobs.create_or_get(start)
            if record.id == start.id:
                self._record, self._pinned = record, Pinned(template, self._route, rule_routes)
                return True
        # It started before, or another process has just created it.
        self._pinned, self._record = self._continued(ledger, record), record
        return False

    def _template(self) -> Template:
        template = self._session.library.load(self._ref, allow_draft=False)
        model = self._options.output_model
        return template if model is None else template.shaped(model.schema)

    def _rule_routes(self) -> dict[str, Route] | None:
        """The routes that rules may choose for a row; None if the user named a route."""
        if not self._options.by_rules:
            return None
        settings = self._session.settings
        return {name: settings.routes[name] for name in sorted(settings.rules.routes)}

    def _continued(self, ledger: Ledger, record: JobRecord) -> Pinned:
        """Return what the job pinned at its first start; a notice says what differs now and is ignored.

        Raises:
            JobConflict: the job has another template, key or output schema.
        """
        options, pinned_ref = self._options, parse_ref(record.template_ref)
        if pinned_ref.name != self._ref.name:
            raise JobConflict(
                f"the job {record.name!r} makes {pinned_ref.name}, not {self._ref.name}",
                remedy="Give this one another name with --job.",
            )
        if record.key_column != options.key_column:
            raise JobConflict(
                f"the job {record.name!r} identifies its rows by {_key_text(record.key_column)}",
                remedy="Continue with the same --key, or give this job another name with --job (it identifies its "
                f"rows by {_key_text(options.key_column)}).",
            )
        if options.output_model is not None and options.output_model.schema != record.schema:
            raise JobConflict(
                f"the job {record.name!r} began with another output schema",
                remedy="Continue with the same model, or give this job another name.",
            )
        template = self._pinned_template(ledger, record).shaped(record.schema)
        route = pinned_route(record)
        if route != self._route:
            self._session.notice(
                f"job {record.name}: it continues with the route it began with ({route.name})"
            )
        return Pinned(template, route, pinned_rule_routes(record))

    def _pinned_template(self, ledger: Ledger, record: JobRecord) -> Template:
        """Return the template as it was at the first start, even if it has changed or is gone."""
        try:
            current = self._session.library.load(self._ref, allow_draft=False)
        except TemplateError as error:
            reason = f"{self._ref} can't be used now: {error.message}"
        else:
            if current.digest == record.template_digest:
                return current
            same = str(current.ref) == record.template_ref
            reason = f"{current.ref} has changed since" if same else f"{self._ref} is now {current.ref}"
        self._session.notice(
            f"job {record.name}: it continues with {record.template_ref} as it began; {reason}"
        )
        return Template.rebuild(record.template_digest, ledger.calls.stored_source)

    # The start: read the rows.

    async def _read_rows(self, ledger: Ledger, *, created: bool) -> None:
        """Read the rows into the ledger; delete the job if it was just created and they can't be read.

        Otherwise, the corrected command would continue with what the wrong one pinned: its key, its template.
        """
        try:
            if self._source is None:
                self._check_resumable(ledger)
            else:
                await self._ingest(ledger, self._source)
            self._check_text_as(self.record.schema)
        except PromptKitError:
            if created:
                await ledger.jobs.discard(self.record.id)
            raise

    async def _ingest(self, ledger: Ledger, source: Source) -> None:
        """Read the input into the ledger, unless it is the same file, read in the same way, as before.

        Raises:
            StoppedEarly: the job was cancelled: only a resume continues it.
        """
        job = self.record
        if ledger.jobs.state(job.id) is JobState.CANCELLED:
            raise cancelled(job.name)
        if (
            job.ingested_us is not None
            and job.input_sha256 is not None
            and job.input_sha256 == input_digest(source.sha256(), self._options)
        ):
            return
        self.reading = source.read()
        reader = self._reader(self.reading, self.pinned.template)
        await ledger.jobs.ingest(job.id, reader.rows(), reader.read)
        reader.notice()
        self._reload(ledger)

    def _reader(self, reading: Reading, template: Template) -> InputReader:
        return InputReader(self._session, template, self._input_name, reading, self._options)

    def _check_resumable(self, ledger: Ledger) -> None:
        """Check that the ledger has the rows.

        Raises:
            JobConflict: the input was never read to its end, or [storage] has erased it.
        """
        job = self.record
        remedy = (
            f"Run its batch command again, with --job {job.name}: it reads the input, and sends no paid row."
        )
        if job.ingested_us is None:
            raise JobConflict(f"the input of job {job.name!r} was never read to its end", remedy=remedy)
        retried = RETRIED_STATES if self._options.retry_failed else ()
        erased = ledger.jobs.erased_row_count(job.id, (RowState.PENDING, *retried))
        if erased:
            raise JobConflict(
                f"job {job.name!r}: [storage] has erased the variables of {counted(erased, 'pending row')}",
                remedy=remedy,
            )

    def _check_text_as(self, schema: Mapping[str, Json] | None) -> None:
        if self._options.text_as is not None:
            columns = () if self._record is None else self._record.columns
            check_text_as(self._options.text_as, columns, schema)

    async def _store_options(self, ledger: Ledger) -> None:
        """Keep how the job runs now, if that has changed."""
        stored = stored_options(self._options)
        if any(self.record.options.get(name) != value for name, value in stored.items()):
            await ledger.jobs.update_run(self.record.id, stored, self.record.output_path)
            self._reload(ledger)

    def _reload(self, ledger: Ledger) -> None:
        self._record = ledger.jobs.get(self.record.name) or self._record

    # The run, and after it.

    def halt(self) -> None:
        """Send no new rows; calls in flight finish and are recorded."""
        self._signal.halt()

    async def results(self, *, stored: bool = True) -> AsyncGenerator[RowResult[Any]]:
        """Run the job; yield one result per row, new ones as the rows end.

        An early end is not an exception here: see `stop`.

        Args:
            stored: whether to begin with the results that the ledger has already, in order.

        Raises:
            NoUsableKey: no target of the route has a usable key.
            Unpriced: a target has no price, and there is a budget.
        """
        ledger = await self._session.ledger()
        self._signal.error = None
        if stored:
            for result in stored_results(ledger, self.record, self._options.read):
                yield result
        if ledger.jobs.has_pending_rows(self.record.id):
            pending = self._pending or PendingRows(ledger, self.record, self._options)
            runner = Runner(self._session, self.record, self.pinned, self._options, pending, self._signal)
            async with aclosing(runner.results()) as results:
                async for result in results:
                    yield result
        if not ledger.jobs.has_pending_rows(self.record.id):
            await ledger.jobs.set_state(self.record.id, JobState.DONE)

    async def report(self) -> JobReport:
        """Return the rows by state and the cost so far."""
        ledger = await self._session.ledger()
        job = self.record
        return JobReport(
            job.name, job.template_ref, ledger.jobs.row_counts(job.id), ledger.reports.spent_by_job(job.id)
        )

    async def remember_output(self, out: Path | None, stored: Mapping[str, Json]) -> None:
        """Keep where and how the output is written, if that has changed."""
        record, path = self.record, stored_path(out)
        if record.output_path != path or any(
            record.options.get(name) != value for name, value in stored.items()
        ):
            ledger = await self._session.ledger()
            await ledger.jobs.update_run(record.id, stored, path)

    async def forget(self, delivered: Path | None = None) -> None:
        """Erase the texts that `[storage]` keeps out of the ledger, if the job is done.

        An open job needs them for its output. Call this after the results are delivered: erased texts
        can't be written again.

        Args:
            delivered: the file that contains them now.
        """
        ledger = await self._session.ledger()
        if not ledger.jobs.has_pending_rows(self.record.id):
            await erase_kept_out(ledger, self.record.id, self._session.settings.storage, delivered)


def _key_text(key_column: str | None) -> str:
    return "their content" if key_column is None else f"the column {key_column!r}"


def job_named(ledger: Ledger, name: str, today: str) -> JobRecord:
    """Return the job of a name; `{date}` is the budget day, as in `--job`.

    Raises:
        UsageError: there is none; the message names the closest ones.
    """
    name = name.replace("{date}", today)
    job = ledger.jobs.get(name)
    if job is None:
        raise UsageError(f"there is no job {name!r}", remedy=closest(name, ledger.jobs.names()))
    return job
