"""Compare: run the same rows through several targets or versions, each column as a job of the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from promptkit.authoring.call_estimate import CallEstimate, add_estimates, estimate_call
from promptkit.batch.binding import cell_text
from promptkit.batch.input import HeadSource
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.engine.context import Session
from promptkit.errors import PromptKitError, UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import JobRecord, OutputRow, RowState
from promptkit.providers.prices import Prices
from promptkit.reports.comparison import REPLIED, Cell, Comparison, ComparisonColumn, ComparisonRow
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import AttemptState, Json, Route, RowResult, Status, TemplateRef
from promptkit.types.ids import show_id

TAG = "compare"
"""The tag of every call of a comparison; its value is the comparison's name."""
_MAX_LABEL = 40
_NOT_IN_SLUG = re.compile(r"[^A-Za-z0-9.]+")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Column:
    """A version of a template on a route.

    `label` is what distinguishes it from the others: `openai/gpt-6-luna`, `@2`, or both.
    """

    label: str
    template: Template
    route: Route

    @property
    def slug(self) -> str:
        """The name of its job, which changes with the template's text and with the targets."""
        key = json.dumps([self.template.digest, self.route.strategy, *map(str, self.route.targets)])
        digest = hashlib.sha256(key.encode()).hexdigest()[:6]
        return f"{_NOT_IN_SLUG.sub('-', self.label).strip('-')[-_MAX_LABEL:]}-{digest}"


def columns_of(
    session: Session,
    ref: str,
    versions: Sequence[str],
    targets: Sequence[str],
    *,
    route: str | None = None,
    tags: Mapping[str, str],
) -> tuple[Column, ...]:
    """Return the columns of a comparison: each target with each version.

    Args:
        session: the templates and the routes.
        ref: the template; without a version if there are `versions`.
        versions: `2`, `draft`, a label; empty for the version of `ref`.
        targets: `provider/model`; empty for one route for all versions.
        route: its name; None for the route of the rules or the configuration.
        tags: of all calls, for the rules.

    Raises:
        UsageError: there are fewer than two columns, or two are the same; a route or target is unknown.
        TemplateError: a version doesn't exist or doesn't load.
        NoUsableKey: a column has no usable target.
    """
    refs = _versions(ref, versions)
    templates = [(label, session.library.load(each, allow_draft=False)) for label, each in refs.items()]
    if targets:
        if route is not None:
            raise UsageError("give a route or targets, not both")
        routes = [(target, session.route(None, [target])) for target in targets]
    else:
        routes = [("", session.route(route, ref=ref, tags=tags))]
    columns = tuple(
        Column(" ".join(part for part in (target, version) if part), template, route_)
        for target, route_ in routes
        for version, template in templates
    )
    if len(columns) < 2:  # noqa: PLR2004 - a comparison needs two
        raise UsageError(
            "one column is nothing to compare",
            remedy="Name two or more: --targets openai/gpt-6-luna,anthropic/claude-haiku-5-5, or --versions 1,2",
        )
    _refuse_equal(columns)
    for column in columns:
        session.plan(column.route, template=column.template.ref.name, tags=tags)
    return columns


def _versions(ref: str, versions: Sequence[str]) -> dict[str, TemplateRef]:
    """Return the references by the label of their version, which is empty for a single one."""
    parsed = parse_ref(ref)
    if not versions:
        return {"": parsed}
    if parsed.at is not None:
        raise UsageError(
            f"{ref} names a version, and so does --versions", remedy=f"Leave the version out: {parsed.name}"
        )
    refs = [parse_ref(f"{parsed.name}@{version.removeprefix('@')}") for version in versions]
    return {f"@{each.at}": each for each in refs}


def _refuse_equal(columns: Sequence[Column]) -> None:
    labels: dict[tuple[str, Route], str] = {}
    for column in columns:
        key = (column.template.digest, column.route)
        if key in labels:
            raise UsageError(
                f"{labels[key]} and {column.label} are the same: they could only differ by chance",
                remedy="Name each target and each version once.",
            )
        labels[key] = column.label


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """The options of a comparison.

    `mapping`, `constants` and `tags` are as in a batch. `cap_pico` is a hard cap of all columns
    together, which then run one after the other. `concurrency` is per column.
    """

    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    cap_pico: int | None = None
    concurrency: int = 4
    retry_failed: bool = False
    by_rules: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonEstimate:
    """The number of cells, the calls that are still needed, what is spent (pico-USD), and what they will cost."""

    cells: int
    calls: int
    spent_pico: int
    cost: CallEstimate


@dataclass(slots=True)
class _ColumnJob:
    """A column, its job in the ledger, and the error that stopped it early."""

    column: Column
    record: JobRecord
    running: Job | None = None
    stop: PromptKitError | None = None


class ComparisonRun:
    """A comparison: `prepare` it, `run` it, `read` it, then `forget` texts that may not be stored.

    Args:
        session: the open session.
        name: its name, for the tag and for the names of its jobs.
        rows: the rows of every column.
        columns: what is compared.
        options: how to run it.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        rows: HeadSource,
        columns: Sequence[Column],
        options: CompareOptions,
    ) -> None:
        self._session = session
        self._name = name
        self._rows = rows
        self._columns = tuple(columns)
        self._options = options
        self._jobs: list[_ColumnJob] = []
        self._halted = False

    async def prepare(self) -> ComparisonEstimate:
        """Create the jobs, and estimate the cost of the pending rows. Nothing is sent.

        Raises:
            PromptKitError: the rows can't be read, another process runs a job, or a price is missing.
        """
        ledger = await self._session.ledger()
        for column in self._columns:
            await self._check(column)
            async with self._job(column, retry_failed=self._options.retry_failed) as job:
                self._jobs.append(_ColumnJob(column, job.record))
        calls = list(self._estimates(ledger))
        return ComparisonEstimate(
            cells=len(self._jobs) * len(self._rows.records),
            calls=len(calls),
            spent_pico=sum(ledger.reports.spent_by_job(job.record.id).charged_pico for job in self._jobs),
            cost=add_estimates(calls),
        )

    async def _check(self, column: Column) -> None:
        """Check that a column's calls can be sent and priced, and open its client before the first latency."""
        session, options = self._session, self._options
        engine = await session.engine()
        plan = session.plan(column.route, template=column.template.ref.name, tags=options.tags)
        if session.scopes("job:0", options.cap_pico, options.tags):
            session.check_priced(engine, plan)
        engine.open(plan)

    def _job(self, column: Column, *, retry_failed: bool = False, cap_pico: int | None = None) -> Job:
        options = self._options
        return Job(
            self._session,
            column.template.ref,
            self._rows,
            column.route,
            JobOptions(
                name=f"{TAG}-{self._name}-{column.slug}",
                mapping=self._for_column(column, options.mapping),
                constants=self._for_column(column, options.constants),
                tags={**options.tags, TAG: self._name},
                cap_pico=cap_pico,
                concurrency=options.concurrency,
                retry_failed=retry_failed,
                by_rules=options.by_rules,
            ),
        )

    def _for_column(self, column: Column, values: Mapping[str, _T]) -> dict[str, _T]:
        """Return values by variable without those that only other columns declare; an unknown name stays."""
        own = column.template.spec.variables
        elsewhere = {name for other in self._columns for name in other.template.spec.variables} - own.keys()
        return {name: value for name, value in values.items() if name.partition(".")[0] not in elsewhere}

    def _estimates(self, ledger: Ledger) -> Iterator[CallEstimate]:
        """Yield the estimate of each pending row; a row whose prompt can't be rendered costs nothing."""
        prices = Prices()
        for job in self._jobs:
            template = job.column.template
            for row in ledger.jobs.pending_rows(job.record.id):
                try:
                    prompt = template.render(template.bind(row.variables or {}))
                except PromptKitError:
                    continue
                yield estimate_call(self._session, job.column.route, prices, template, prompt)

    async def run(self, on_result: Callable[[RowResult], None]) -> None:
        """Send the pending rows; `on_result` is called with each result as it arrives.

        If a column stops early, the error is in `stops`.

        Raises:
            PromptKitError: the ledger can't be written. Calls in flight are awaited first.
        """
        ledger = await self._session.ledger()
        # One cap for several jobs: each must know what the others left, so they run one after the other.
        slots = asyncio.Semaphore(1 if self._options.cap_pico is not None else len(self._jobs))
        runs = [self._run(ledger, job, slots, on_result) for job in self._jobs]
        for error in await asyncio.gather(*runs, return_exceptions=True):
            if error is not None:
                raise error

    async def _run(
        self,
        ledger: Ledger,
        column_job: _ColumnJob,
        slots: asyncio.Semaphore,
        on_result: Callable[[RowResult], None],
    ) -> None:
        async with slots:
            if self._halted:
                return
            running = self._job(column_job.column, cap_pico=self._left_pico(ledger, column_job))
            column_job.running = running
            try:
                async with running as job, aclosing(job.results(stored=False)) as results:
                    async for result in results:
                        on_result(result)
                column_job.stop = running.stop
            except BaseException:
                self.halt()
                raise

    def _left_pico(self, ledger: Ledger, job: _ColumnJob) -> int | None:
        """Return the cap of one column: what the others left of the shared cap."""
        if self._options.cap_pico is None:
            return None
        others = [other.record.id for other in self._jobs if other is not job]
        return max(
            0, self._options.cap_pico - sum(ledger.reports.spent_by_job(id_).charged_pico for id_ in others)
        )

    def halt(self) -> None:
        """Send nothing new; calls in flight are awaited and recorded."""
        self._halted = True
        for job in self._jobs:
            if job.running is not None:
                job.running.halt()

    @property
    def stops(self) -> tuple[PromptKitError, ...]:
        """The errors that stopped columns early."""
        return tuple(job.stop for job in self._jobs if job.stop is not None)

    def read(self, ledger: Ledger) -> Comparison:
        """Return the comparison as the ledger has it."""
        columns = [
            {out.row.position + 1: _cell(ledger, job, out) for out in ledger.jobs.output_rows(job.record.id)}
            for job in self._jobs
        ]
        return Comparison(
            name=self._name,
            template=self._columns[0].template.ref.name,
            table=self._rows.name,
            columns=tuple(
                ComparisonColumn(
                    label=job.column.label,
                    template=str(job.column.template.ref),
                    template_digest=job.column.template.digest,
                    targets=tuple(map(str, job.column.route.targets)),
                    job=job.record.name,
                    has_checks=job.column.template.spec.checks is not None,
                )
                for job in self._jobs
            ),
            rows=tuple(
                ComparisonRow(number, _facts(record.cells), tuple(column[number] for column in columns))
                for number, record in enumerate(self._rows.records, start=1)
            ),
        )

    def erased(self, ledger: Ledger) -> int:
        """Return how many of its texts are no longer in the ledger."""
        return sum(ledger.jobs.reply_counts(job.record.id)[1] for job in self._jobs)

    async def forget(self) -> None:
        """Erase the texts that `[storage]` excludes, after they were delivered."""
        for job in self._jobs:
            if job.running is not None:
                await job.running.forget()


def _facts(cells: Mapping[str, Json]) -> dict[str, str]:
    texts = {name: cell_text(cell) for name, cell in cells.items()}
    return {name: text for name, text in texts.items() if text.strip()}


def _cell(ledger: Ledger, job: _ColumnJob, out: OutputRow) -> Cell:
    row = out.row
    if row.state is RowState.PENDING:
        why = "pending: run the same command again" if job.stop is None else job.stop.message
        return Cell(None, why=why, money=out.money)
    status = Status.FAILED if row.state is RowState.INVALID else Status(row.state.value)
    text = _readable(out.text, job.record.schema)
    why = row.error or out.error or ""
    usage, latency_s = None, None
    call = None if row.call_id is None else ledger.calls.get(row.call_id)
    if call is not None and status in REPLIED:
        if text is None:
            why = why or "the text is not stored: [storage] keeps replies out of the ledger"
        with_reply = (AttemptState.OK, AttemptState.TRUNCATED)
        attempt = next((attempt for attempt in call.attempts if attempt.state in with_reply), None)
        if attempt is not None:
            usage = attempt.usage
            latency_s = None if attempt.latency_us is None else attempt.latency_us / 1e6
    return Cell(
        status,
        text=text,
        why=why,
        problems=out.flags,
        money=out.money,
        usage=usage,
        latency_s=latency_s,
        target="" if out.target is None else str(out.target),
        call="" if row.call_id is None else show_id(row.call_id),
    )


def _readable(text: str | None, schema: Mapping[str, Json] | None) -> str | None:
    """Return a structured reply with a line per member; other texts unchanged."""
    if text is None or schema is None:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text
