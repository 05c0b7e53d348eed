"""A job: it pins what it runs, takes its rows in, and turns each into text exactly once.

Everything that must survive the process is in the ledger: what is pinned, which rows there are,
and what became of each. A job that was stopped, whatever stopped it, goes on by being started
again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from promptkit.engine.context import Session
from promptkit.engine.judge import judge_of
from promptkit.errors import JobConflict, PromptKitError, TemplateError, UsageError, closest, counted
from promptkit.ledger.records import JobRecord, JobStart, JobState, Money, RowState
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import Json, Route, RowResult, TemplateRef

from .columns import check_text_as
from .control import cancelled
from .input import FileReading, MemorySource, Reader, Reading, Rows, Source, input_digest, sample, source_of
from .options import (
    AGAIN,
    JobOptions,
    Pinned,
    carried_on,
    job_name,
    pinned_detours,
    pinned_options,
    pinned_route,
    plain_detours,
    plain_options,
    plain_params,
    plain_path,
    plain_route,
)
from .output import erase_kept_out, stored_results
from .quote import Asked, Quote, Quoter, check_caps
from .runner import Runner

if TYPE_CHECKING:
    from promptkit._util.locks import LockFile
    from promptkit.ledger.ledger import Ledger


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
        ref: the template, as the user names it.
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
        self._lock: LockFile | None = None
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
        return JobReport(
            job.name, job.template_ref, ledger.jobs.row_counts(job.id), ledger.reports.spent_by_job(job.id)
        )

    async def forget(self, delivered: Path | None = None) -> None:
        """Erase the texts that `[storage]` keeps out, if the job is done.

        While it is open the ledger has them, for the output is made from there. Call it when the
        results were delivered: what is erased can't be written again.

        Args:
            delivered: the file that has them now.
        """
        ledger = await self._session.ledger()
        if not ledger.jobs.has_pending_rows(self.record.id):
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
        reader = Reader(self._session, asked.template, self._source.name, reading, self._options)
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
            TemplateError: the template can't stand.
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
        self._lock = ledger.jobs.lock(self.record)
        try:
            self._check_wanted(ledger)
            await self._take_rows_or_leave(ledger, made=starting.made)
            await self._remember(ledger)
            if self._options.retry_failed:
                await ledger.jobs.reset_rows(self.record.id, AGAIN)
            self._chosen, self.to_do = self._choose(ledger)
            state = ledger.jobs.state(self.record.id)
            if state is not JobState.OPEN and ledger.jobs.has_pending_rows(self.record.id):
                await ledger.jobs.set_state(self.record.id, JobState.OPEN)
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
        if ledger.jobs.has_pending_rows(self.record.id):
            self._runner = Runner(
                self._session, ledger, self.pinned, self._options, chosen=self._chosen, to_do=self.to_do
            )
            if self._halted:
                self._runner.halt()
            async with aclosing(self._runner.results()) as results:
                async for result in results:
                    yield result
            self.stop = self._runner.stop
        if not ledger.jobs.has_pending_rows(self.record.id):
            await ledger.jobs.set_state(self.record.id, JobState.DONE)

    # ------------------------------------------------------------------ its rows

    def _starting(self) -> Starting:
        return Starting(self._session, self._ref, self._source, self._route, self._options)

    def _choose(self, ledger: Ledger) -> tuple[frozenset[int] | None, int]:
        """The rows that this run is about (None: all), and how many of them it is to make."""
        options, job_id = self._options, self.record.id
        if options.sample is None:
            chosen, waiting = None, ledger.jobs.row_counts(job_id).get(RowState.PENDING, 0)
        else:
            names = ledger.jobs.row_keys(job_id)
            chosen = sample(names, options.sample, options.seed)
            waiting = sum(row_id in chosen for row_id in ledger.jobs.pending_ids(job_id))
        return chosen, waiting if options.limit is None else min(waiting, options.limit)

    def _check_wanted(self, ledger: Ledger) -> None:
        if not self.wakes and ledger.jobs.state(self.record.id) is JobState.CANCELLED:
            raise cancelled(self.record.name)

    async def _remember(self, ledger: Ledger) -> None:
        """Keep how the job runs now, where that has changed."""
        told = plain_options(self._options)
        if any(self.record.options.get(name) != value for name, value in told.items()):
            await ledger.jobs.update_run(self.record.id, told, self.record.output_path)
            self._read_again(ledger)

    async def remember_output(self, out: Path | None, told: Mapping[str, Json]) -> None:
        """Keep where and how the output is written, where that has changed."""
        record, path = self.record, plain_path(out)
        if record.output_path != path or any(record.options.get(name) != kept for name, kept in told.items()):
            ledger = await self._session.ledger()
            await ledger.jobs.update_run(record.id, told, path)

    async def _take_rows_or_leave(self, ledger: Ledger, *, made: bool) -> None:
        """Take the rows in; a job that was made for rows that can't be is none.

        Else the corrected command would go on with what the wrong one pinned: its key, its template.
        """
        try:
            await self._take_rows(ledger)
            check_text_name(self._options, self.record.columns, self.record.schema)
        except PromptKitError:
            if made:
                await ledger.jobs.discard(self.record.id)
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
        reader = Reader(self._session, self.pinned.template, self._source.name, self.reading, self._options)
        await ledger.jobs.ingest(job.id, reader.rows(), reader.read)
        reader.tell()
        self._read_again(ledger)

    def _read_again(self, ledger: Ledger) -> None:
        """Take the job as the ledger has it now."""
        record = ledger.jobs.get(self.record.name)
        if record is not None:
            self._pinned = replace(self.pinned, job=record)


class Starting:
    """One start of a job.

    Args:
        session: what the process has open.
        ref: the template, as the user names it.
        source: where its rows come from.
        route: where calls may go.
        options: the rest.
    """

    def __init__(
        self, session: Session, ref: TemplateRef, source: Source, route: Route, options: JobOptions
    ) -> None:
        self._session = session
        self._ref = ref
        self._source = source
        self._route = route
        self._options = options
        self.made = False
        """Whether this start made the job."""

    @property
    def name(self) -> str:
        """What it is called; `{date}` is the budget day.

        Raises:
            UsageError: its rows are in memory, and it has no name.
        """
        options = self._options
        if options.name is None and isinstance(self._source, MemorySource):
            raise UsageError(
                "rows in memory need a name for their job",
                remedy='For example job="night-{date}": under the same name it goes on where it stopped.',
            )
        return job_name(options.name, self._ref.name, self._source.name, options.out, self._session.today())

    def asked(self, ledger: Ledger | None) -> Asked:
        """What the job runs, or would if it began now."""
        known = None if ledger is None else ledger.jobs.get(self.name)
        if ledger is not None and known is not None:
            return asked_of(self._go_on(ledger, known))
        return Asked(self._load(), self._route, self._detours())

    async def pin(self, ledger: Ledger) -> Pinned:
        """The job of that name, as it was pinned; made where there is none."""
        name = self.name
        known = ledger.jobs.get(name)
        if known is not None:
            return self._go_on(ledger, known)
        template = self._load()
        check_text_name(self._options, (), template.spec.output)
        judge_of(template, {})  # a schema that nothing can be held against is refused before there is a job
        await self._session.remember(template)
        detours = self._detours()
        start = JobStart(
            id=self._session.ids(),
            name=name,
            template_digest=template.digest,
            template_ref=str(template.ref),
            route=self._route.name,
            created_us=int(datetime.now(UTC).timestamp() * 1e6),
            params=plain_params(self._session.params(template, self._route)),
            schema=template.spec.output,
            options={
                "route": plain_route(self._route),
                "detours": plain_detours(detours),
                "checks": template.spec.checks is not None,
                **plain_options(self._options),
            },
            key_column=self._options.key_column,
            input_path=self._source.name,
            output_path=plain_path(self._options.out),
        )
        record = await ledger.jobs.create_or_get(start)
        if record.id != start.id:  # another process was first
            return self._go_on(ledger, record)
        self.made = True
        return Pinned(record, template, self._route, detours)

    def _go_on(self, ledger: Ledger, job: JobRecord) -> Pinned:
        """Take up a job with what it pinned; what the user says otherwise now is told and ignored."""
        pinned_ref = parse_ref(job.template_ref)
        if pinned_ref.name != self._ref.name:
            raise JobConflict(
                f"the job {job.name!r} makes {pinned_ref.name}, not {self._ref.name}",
                remedy="Give this one another name with --job.",
            )
        if job.key_column != self._options.key_column:
            raise JobConflict(
                f"the job {job.name!r} names its rows by {_naming(job.key_column)}",
                remedy=f"Go on with the same --key, or give this one another name with --job (it names them by "
                f"{_naming(self._options.key_column)}).",
            )
        shape = self._options.shape
        if shape is not None and shape.schema != job.schema:
            raise JobConflict(
                f"the job {job.name!r} began with another output schema",
                remedy="Go on with the same model, or give this one another name.",
            )
        template = self._pinned_template(ledger, job).shaped(job.schema)
        route = pinned_route(job)
        if route != self._route:
            self._session.say(f"job {job.name}: it goes on with the route it began with ({route.name})")
        return Pinned(job, template, route, pinned_detours(job))

    def _load(self) -> Template:
        template = self._session.library.load(self._ref, allow_draft=False)
        shape = self._options.shape
        return template if shape is None else template.shaped(shape.schema)

    def _detours(self) -> dict[str, Route] | None:
        """The routes that rules name, where rows may go by them."""
        if not self._options.by_rules:
            return None
        settings = self._session.settings
        return {name: settings.routes[name] for name in sorted(settings.rules.routes)}

    def _pinned_template(self, ledger: Ledger, job: JobRecord) -> Template:
        """The template as it was at the job's first start, whatever has become of it since."""
        try:
            current = self._session.library.load(self._ref, allow_draft=False)
        except TemplateError as cause:
            now = f"{self._ref} can't be used now: {cause.message}"
        else:
            if current.digest == job.template_digest:
                return current
            same = str(current.ref) == job.template_ref
            now = f"{current.ref} has changed since" if same else f"{self._ref} now means {current.ref}"
        self._session.say(f"job {job.name}: it goes on with {job.template_ref} as it began; {now}")
        return Template.rebuild(job.template_digest, ledger.calls.stored_source)


def asked_of(pinned: Pinned) -> Asked:
    """What the rows of a job are for, as it has pinned it."""
    return Asked(pinned.template, pinned.route, pinned.detours, pinned.job.name, pinned.job.id)


def check_text_name(options: JobOptions, columns: Sequence[str], schema: Mapping[str, Json] | None) -> None:
    """See that the text's column can have the name that `--text-as` gives it.

    Raises:
        UsageError: it can't.
    """
    if options.text_as is not None:
        check_text_as(options.text_as, columns, schema)


def _naming(key_column: str | None) -> str:
    return "their content" if key_column is None else f"the column {key_column!r}"


class JobAgain(Job):
    """A job as the ledger has it: its input isn't read again, and may be gone.

    Args:
        session: what the process has open.
        record: the job.
        options: how to run it, as `pinned_options` gives it.
    """

    wakes = True

    def __init__(self, session: Session, record: JobRecord, options: JobOptions) -> None:
        route = pinned_route(record)
        own = replace(options, name=record.name, key_column=record.key_column)
        super().__init__(session, record.template_ref, (), route, own)

    async def _take_rows(self, ledger: Ledger) -> None:
        """See that its rows can be sent.

        Raises:
            JobConflict: its input was never read to its end, or is erased.
        """
        job = self.record
        again = (
            f"Run its batch command again, with --job {job.name}: it reads the input and pays nothing twice."
        )
        if job.ingested_us is None:
            raise JobConflict(f"the input of job {job.name!r} was never read to its end", remedy=again)
        again_states = AGAIN if self._options.retry_failed else ()
        erased = ledger.jobs.erased_row_count(job.id, (RowState.PENDING, *again_states))
        if erased:
            raise JobConflict(
                f"job {job.name!r}: of {counted(erased, 'row')} to be sent, [storage] has erased the variables",
                remedy=again,
            )


def said_again(record: JobRecord, **said: Any) -> JobOptions:
    """The options that a job had, with those that are said anew; None is not said."""
    return replace(
        pinned_options(record), **{name: value for name, value in said.items() if value is not None}
    )


def job_named(ledger: Ledger, name: str, today: str) -> JobRecord:
    """The job of a name; `{date}` is the budget day, as in `--job`.

    Raises:
        UsageError: there is none; the closest names are told.
    """
    told = name.replace("{date}", today)
    job = ledger.jobs.get(told)
    if job is None:
        raise UsageError(f"there is no job {told!r}", remedy=closest(told, ledger.jobs.names()))
    return job
