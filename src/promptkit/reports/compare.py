"""A comparison under way: each column's rows are taken in, priced, made, and read back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from statistics import median
from typing import Final, TypeVar

from promptkit.authoring.test_replies import price_call
from promptkit.batch.binding import cell_text
from promptkit.batch.input import HeadSource
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.engine.context import Session
from promptkit.errors import PromptKitError, UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import CallRecord, JobRecord, Money, OutputRow, RowState
from promptkit.providers.prices import Prices
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import AttemptState, Json, Route, RowResult, Status, TemplateRef, Usage
from promptkit.types.ids import show_id

TAG: Final = "compare"
"""The tag of every call of a comparison; its value is the comparison's name."""


_WAITS: Final = "not made yet: the same command goes on"


_NOT_KEPT: Final = "the text is not kept: [storage] keeps replies out of the ledger"


_ANSWERS: Final = (AttemptState.OK, AttemptState.TRUNCATED)


Note = Callable[[RowResult], None]


_Wish = TypeVar("_Wish")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a comparison.

    `mapping`, `constants` and `tags` are as in a batch; `cap_pico` is a hard cap of all columns
    together, under which they are made one after the other; `concurrency` is of each column.
    """

    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    cap_pico: int | None = None
    concurrency: int = 4
    retry_failed: bool = False
    by_rules: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What is done and paid, what is still to do, and what that will cost, in pico-USD.

    None where a price is unknown. `at_most_pico` holds where no call needs a second attempt.
    """

    cells: int
    calls: int
    spent_pico: int
    about_pico: int | None
    at_most_pico: int | None


@dataclass(slots=True)
class _Lane:
    """A column, its job in the ledger, and why it ended early."""

    column: Column
    record: JobRecord
    running: Job | None = None
    stop: PromptKitError | None = None


class Comparing:
    """A comparison: `take` its rows, `run` it, `read` it, then `forget` what may not be kept.

    Args:
        session: what the process has open.
        name: what it is called, in the tag and in the names of its jobs.
        rows: the same for each column.
        columns: what is compared.
        options: how.
    """

    def __init__(
        self, session: Session, name: str, rows: HeadSource, columns: Sequence[Column], options: Options
    ) -> None:
        self._session = session
        self._name = name
        self._rows = rows
        self._columns = tuple(columns)
        self._options = options
        self._lanes: list[_Lane] = []
        self._halted = False

    @property
    def stops(self) -> tuple[PromptKitError, ...]:
        """What ended columns before their rows did."""
        return tuple(lane.stop for lane in self._lanes if lane.stop is not None)

    async def take(self) -> Offer:
        """Take the rows in, and price what isn't paid yet. Nothing is sent.

        Raises:
            PromptKitError: the rows can't be read, another process is at it, a price is missing.
        """
        ledger = await self._session.ledger()
        for column in self._columns:
            await self._check(column)
            async with self._job(column, retry_failed=self._options.retry_failed) as job:
                self._lanes.append(_Lane(column, job.record))
        return self._offer(ledger)

    async def run(self, note: Note) -> None:
        """Make what is still to do; `note` is told of each text as it is there.

        What stops a column early is no exception: see `stops`.

        Raises:
            PromptKitError: the ledger can't be written; what was in flight is awaited.
        """
        ledger = await self._session.ledger()
        # One purse for several jobs: only one after the other can each know what the others left.
        gate = asyncio.Semaphore(1 if self._options.cap_pico is not None else len(self._lanes))
        made = [self._run(ledger, lane, gate, note) for lane in self._lanes]
        for outcome in await asyncio.gather(*made, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def halt(self) -> None:
        """Send nothing new; what is in flight is awaited and recorded."""
        self._halted = True
        for lane in self._lanes:
            if lane.running is not None:
                lane.running.halt()

    def read(self, ledger: Ledger) -> Comparison:
        """The comparison as the ledger has it."""
        facts = [_facts(record.cells) for record in self._rows.records]
        columns = [self._cells(ledger, lane) for lane in self._lanes]
        lines = [
            Line(number, facts[number - 1], tuple(column[number] for column in columns))
            for number in range(1, len(facts) + 1)
        ]
        return Comparison(
            name=self._name,
            template=self._columns[0].template.ref.name,
            rows=self._rows.name,
            sides=tuple(_side(lane) for lane in self._lanes),
            lines=tuple(lines),
        )

    def erased(self, ledger: Ledger) -> int:
        """How many of its texts the ledger no longer has."""
        return sum(ledger.jobs.reply_counts(lane.record.id)[1] for lane in self._lanes)

    async def forget(self) -> None:
        """Erase the texts that `[storage]` keeps out. For when they have been delivered."""
        for lane in self._lanes:
            if lane.running is not None:
                await lane.running.forget()

    # ------------------------------------------------------------------------------ pieces

    def _job(self, column: Column, *, retry_failed: bool = False, cap_pico: int | None = None) -> Job:
        options = self._options
        return Job(
            self._session,
            column.template.ref,
            self._rows,
            column.route,
            JobOptions(
                name=f"{TAG}-{self._name}-{column.slug}",
                mapping=self._of(column, options.mapping),
                constants=self._of(column, options.constants),
                tags={**options.tags, TAG: self._name},
                cap_pico=cap_pico,
                concurrency=options.concurrency,
                retry_failed=retry_failed,
                by_rules=options.by_rules,
            ),
        )

    def _of(self, column: Column, wishes: Mapping[str, _Wish]) -> dict[str, _Wish]:
        """What is said of a column's variables; what no column declares stays, to be refused."""
        own = column.template.spec.variables
        all_ = {name for one in self._columns for name in one.template.spec.variables}
        elsewhere = all_ - own.keys()
        return {name: wish for name, wish in wishes.items() if name.partition(".")[0] not in elsewhere}

    async def _check(self, column: Column) -> None:
        """See that a column can be asked and priced; its client is opened, so that no text's time holds that."""
        session, options = self._session, self._options
        engine = await session.engine()
        plan = session.plan(column.route, template=column.template.ref.name, tags=options.tags)
        if session.scopes("job:0", options.cap_pico, options.tags):
            session.check_priced(engine, plan)
        engine.open(plan)

    def _offer(self, ledger: Ledger) -> Offer:
        """What the rows that wait will cost; one that makes no prompt costs nothing."""
        prices = Prices()
        each: list[tuple[int | None, int | None]] = []
        for lane in self._lanes:
            template, route = lane.column.template, lane.column.route
            for row in ledger.jobs.pending_rows(lane.record.id):
                try:
                    prompt = template.render(template.bind(row.variables or {}))
                except PromptKitError:
                    continue
                each.append(price_call(self._session, route, prices, template, prompt))
        return Offer(
            cells=len(self._lanes) * len(self._rows.records),
            calls=len(each),
            spent_pico=sum(ledger.reports.spent_by_job(lane.record.id).charged_pico for lane in self._lanes),
            about_pico=_sum(about for about, _ in each),
            at_most_pico=_sum(most for _, most in each),
        )

    async def _run(self, ledger: Ledger, lane: _Lane, gate: asyncio.Semaphore, note: Note) -> None:
        async with gate:
            if self._halted:
                return
            lane.running = self._job(lane.column, cap_pico=self._left(ledger, lane))
            try:
                async with lane.running as job, aclosing(job.results(stored=False)) as results:
                    async for result in results:
                        note(result)
                lane.stop = lane.running.stop
            except BaseException:
                self.halt()
                raise

    def _left(self, ledger: Ledger, lane: _Lane) -> int | None:
        """The cap of one column: what the others have left of the one they share."""
        if self._options.cap_pico is None:
            return None
        others = [one.record.id for one in self._lanes if one is not lane]
        return max(
            0, self._options.cap_pico - sum(ledger.reports.spent_by_job(one).charged_pico for one in others)
        )

    def _cells(self, ledger: Ledger, lane: _Lane) -> dict[int, Cell]:
        """The cells of a column, by the rows' numbers."""
        return {
            out.row.position + 1: _cell(ledger, lane, out) for out in ledger.jobs.output_rows(lane.record.id)
        }


def _sum(picos: Iterator[int | None]) -> int | None:
    found = list(picos)
    known = [pico for pico in found if pico is not None]
    return sum(known) if len(known) == len(found) else None


def _facts(cells: Mapping[str, Json]) -> dict[str, str]:
    texts = {name: cell_text(cell) for name, cell in cells.items()}
    return {name: text for name, text in texts.items() if text.strip()}


def _side(lane: _Lane) -> Side:
    template = lane.column.template
    return Side(
        label=lane.column.label,
        template=str(template.ref),
        template_digest=template.digest,
        targets=tuple(map(str, lane.column.route.targets)),
        job=lane.record.name,
        has_checks=template.spec.checks is not None,
    )


def _cell(ledger: Ledger, lane: _Lane, out: OutputRow) -> Cell:
    row = out.row
    if row.state is RowState.PENDING:
        return Cell(None, why=_WAITS if lane.stop is None else lane.stop.what, money=out.money)
    status = Status.FAILED if row.state is RowState.INVALID else Status(row.state.value)
    call = None if row.call_id is None else ledger.calls.get(row.call_id)
    cell = Cell(
        status,
        text=_legible(out.text, lane.record.schema),
        why=row.error or out.error or "",
        problems=out.flags,
        money=out.money,
        target="" if out.target is None else str(out.target),
        call="" if row.call_id is None else show_id(row.call_id),
    )
    if not cell.is_answered or call is None:
        return cell
    return _with_answer(cell, call)


def _with_answer(cell: Cell, call: CallRecord) -> Cell:
    answer = next((attempt for attempt in call.attempts if attempt.state in _ANSWERS), None)
    why = cell.why or ("" if cell.text is not None else _NOT_KEPT)
    if answer is None:
        return replace(cell, why=why)
    latency_s = None if answer.latency_us is None else answer.latency_us / 1e6
    return replace(cell, why=why, usage=answer.usage, latency_s=latency_s)


def _legible(text: str | None, schema: Mapping[str, Json] | None) -> str | None:
    """A structured reply with its members on lines of their own; other texts as they are."""
    if text is None or schema is None:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text


_UNFIT: Final = re.compile(r"[^A-Za-z0-9.]+")


_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Column:
    """One of the things that are compared: a version of a template on a route.

    `label` says what sets it apart from the others: `openai/gpt-6-luna`, `@2`, or both.
    """

    label: str
    template: Template
    route: Route

    @property
    def slug(self) -> str:
        """A name for its job: another text, or other targets, make another one."""
        told = json.dumps([self.template.digest, self.route.strategy, *map(str, self.route.targets)])
        digest = hashlib.sha256(told.encode()).hexdigest()[:6]
        return f"{_UNFIT.sub('-', self.label).strip('-')[-_LONGEST:]}-{digest}"


def columns_of(
    session: Session,
    ref: str,
    versions: Sequence[str],
    targets: Sequence[str],
    *,
    route: str | None = None,
    tags: Mapping[str, str],
) -> tuple[Column, ...]:
    """The columns of a comparison: each target with each version.

    Args:
        session: the templates and the routes.
        ref: the template; it names no version where `versions` do.
        versions: `2`, `draft`, a label; empty for the one that `ref` means.
        targets: `provider/model`; empty for a route, the same for all versions.
        route: its name; None for the one that rules or the configuration say.
        tags: of all calls, for the rules.

    Raises:
        UsageError: fewer than two columns, or two that are the same; an unknown route or target.
        TemplateError: a version isn't there, or is broken.
        NoUsableKey: a column has no target that can be asked.
    """
    templates = [
        (at, session.library.load(one, allow_draft=False)) for at, one in _refs(ref, versions).items()
    ]
    if targets:
        if route is not None:
            raise UsageError("give a route or targets, not both")
        ways = [(target, session.route(None, [target])) for target in targets]
    else:
        ways = [("", session.route(route, ref=ref, tags=tags))]
    columns = tuple(
        Column(" ".join(part for part in (target, at) if part), template, way)
        for target, way in ways
        for at, template in templates
    )
    if len(columns) < 2:  # noqa: PLR2004 - one is compared with nothing
        raise UsageError(
            "one column is nothing to compare",
            remedy="Name two or more: --targets openai/gpt-6-luna,anthropic/claude-haiku-5-5, or --versions 1,2",
        )
    _refuse_twins(columns)
    for column in columns:
        session.plan(column.route, template=column.template.ref.name, tags=tags)
    return columns


def _refs(ref: str, versions: Sequence[str]) -> dict[str, TemplateRef]:
    """The references by what sets them apart; nothing does where there is one."""
    named = parse_ref(ref)
    if not versions:
        return {"": named}
    if named.at is not None:
        raise UsageError(
            f"{ref} names a version, and so does --versions", remedy=f"Leave the version out: {named.name}"
        )
    refs = [parse_ref(f"{named.name}@{version.removeprefix('@')}") for version in versions]
    return {f"@{ref.at}": ref for ref in refs}


def _refuse_twins(columns: Sequence[Column]) -> None:
    seen: dict[tuple[str, Route], str] = {}
    for column in columns:
        key = (column.template.digest, column.route)
        if key in seen:
            raise UsageError(
                f"{seen[key]} and {column.label} are the same: what differs could only be chance",
                remedy="Name each target and each version once.",
            )
        seen[key] = column.label


_ANSWERED: Final = frozenset({Status.OK, Status.TRUNCATED, Status.DEGRADED})


_THOUSAND: Final = 1000


NOTHING: Final = Money()


_PICTURES: Final = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


_NOT_TEXT: Final = re.compile("[\x80-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Cell:
    """What one column made of one row.

    `status` is None while the row waits. `why` says why there is no (whole) text, `problems` are
    the flags that it is kept with: what `[checks]` found wrong. `money` is of all the row's calls;
    tokens, target and latency are those of the request that answered, None where none did.
    """

    status: Status | None
    text: str | None = None
    why: str = ""
    problems: tuple[str, ...] = ()
    money: Money = NOTHING
    usage: Usage | None = None
    latency_s: float | None = None
    target: str = ""
    call: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether a text was made, be it kept or not."""
        return self.status in _ANSWERED


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table and what each column made of it, in the columns' order.

    `number` counts the table's rows from 1; `facts` are its columns that aren't empty.
    """

    number: int
    facts: Mapping[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """A column as it is told: its label, what it runs, and its job."""

    label: str
    template: str
    template_digest: str
    targets: tuple[str, ...]
    job: str
    has_checks: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it. `name` is the value of the tag `compare` of every call."""

    name: str
    template: str
    rows: str
    sides: tuple[Side, ...]
    lines: tuple[Line, ...]

    @property
    def figures(self) -> tuple[Figures, ...]:
        """The figures of each column."""
        return tuple(
            figures([line.cells[place] for line in self.lines], has_checks=side.has_checks)
            for place, side in enumerate(self.sides)
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """A column in sum. Prices are exact and rounded once; None is unknown, or nothing to divide by.

    `per_text_pico` is all that the column cost, its failures too, by the texts it made;
    `latency_s` and tokens are medians over the texts. `checks_failed` counts texts that don't keep
    to the template's checks, None where it has none.
    """

    rows: int
    texts: int
    failed: int
    waiting: int
    checks_failed: int | None
    money: Money
    per_text_pico: int | None
    per_thousand_pico: int | None
    latency_s: float | None
    input_tokens: float | None
    output_tokens: float | None
    reasoning_tokens: float | None


def figures(cells: Sequence[Cell], *, has_checks: bool = False) -> Figures:
    """The figures of a column's cells."""
    answered = [cell for cell in cells if cell.is_answered]
    waiting = sum(cell.status is None for cell in cells)
    money = sum((cell.money for cell in cells), NOTHING)
    usages = [cell.usage for cell in answered if cell.usage is not None]
    each = None if money.unknown or not answered else Fraction(money.known_pico, len(answered))
    return Figures(
        rows=len(cells),
        texts=len(answered),
        failed=len(cells) - len(answered) - waiting,
        waiting=waiting,
        checks_failed=sum(bool(cell.problems) for cell in answered) if has_checks else None,
        money=money,
        per_text_pico=None if each is None else round(each),
        per_thousand_pico=None if each is None else round(each * _THOUSAND),
        latency_s=_median(cell.latency_s for cell in answered if cell.latency_s is not None),
        input_tokens=_median(usage.input_tokens for usage in usages),
        output_tokens=_median(usage.output_tokens for usage in usages),
        reasoning_tokens=_median(usage.reasoning_tokens for usage in usages),
    )


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def best(columns: Sequence[Figures], of: Callable[[Figures], float | None]) -> int | None:
    """The place of the column with the lowest figure; None where it isn't one alone, or one isn't known.

    Args:
        columns: the figures.
        of: which figure.
    """
    values = [of(one) for one in columns]
    known = [value for value in values if value is not None]
    if len(known) != len(values) or known.count(min(known, default=0)) != 1:
        return None
    return values.index(min(known))


def shown(text: str) -> str:
    """A text of anybody's, made fit to be shown: what would steer a terminal or is no text is visible.

    Control characters become their pictures (NUL: ␀), line ends one kind; what UTF-8 can't say
    becomes the replacement character.
    """
    plain = text.replace("\r\n", "\n").translate(_PICTURES)
    return _NOT_TEXT.sub("\ufffd", plain)
