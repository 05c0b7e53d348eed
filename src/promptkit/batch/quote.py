"""A batch's quote: its rows are read, rendered and counted, and the ledger's history is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from promptkit.engine.context import Session
from promptkit.engine.pack import can_pack
from promptkit.errors import BudgetStop, TemplateError, UsageError, counted
from promptkit.ledger.records import RowRecord, RowStart
from promptkit.providers.params import prefix_tokens
from promptkit.providers.tokens import PER_CALL, estimate_input_tokens, max_input_tokens
from promptkit.routing.budgets import scope_words
from promptkit.routing.plan import STRATEGIES
from promptkit.templates.template import Template
from promptkit.types import Call, Prefix, Prompt, Route, Target, Value, dollars

from .binding import Ordinals, row_key
from .control import way_of
from .estimates import Basis, Figures, History, Load, Offer, Offers, added, figures_at, mixed, shares, total
from .options import AGAIN, AUTO, JobOptions
from .pack_size import Judged, Packing, Sizes, packing_of, pays, sizes_of, together, tokens_of
from .packing import room_of, shared_tags

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.routing.flow import Plan


_PAGE: Final = 500


_COUNTED: Final = ((200, 1), (10_000, 50), (None, 500))
"""Counting a prompt's tokens takes four times as long as making it, so some rows stand for all: up to so many rows, one in so many."""


_TOLD: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What the rows are for, and over which way: as a job has pinned it, or would."""

    template: Template
    route: Route
    detours: Mapping[str, Route] | None
    job: str | None = None
    job_id: int | None = None


class Quoter:
    """Adds rows up to a quote.

    Args:
        session: settings, rules and clock.
        asked: what the rows are for.
        options: how the batch would run.
        ledger: the history; None where there is none yet.
    """

    def __init__(self, session: Session, asked: Asked, options: JobOptions, ledger: Ledger | None) -> None:
        self._session = session
        self._asked = asked
        self._options = options
        self._ledger = ledger
        self._history = History(asked.template, ledger)
        self._offers = Offers(session, asked.template, self._history)
        self._loads: dict[object, tuple[Load, PackTally]] = {}
        self._accounts: dict[str, Account] = {}
        self._estimated = self._counted = self._sampled = 0
        self._begun: Counter[Prefix] = Counter()
        """How many rows begin alike: as many kinds as variables with choices have values."""
        self._seen = None if options.key_column is None else Ordinals()
        """Contents, where keys name the rows."""
        self._unmade = 0
        self._rows = self._to_send = self._done = self._invalid = self._duplicates = 0

    async def read(self, rows: Iterable[RowStart]) -> None:
        """Add the rows of an input; those that the job has done already only count."""
        source = iter(rows)
        while page := list(islice(source, _PAGE)):
            done = self._done_of(page)
            for row in page:
                self._rows += 1
                self._duplicates += row.error is None and self._seen_before(row)
                if (row.key, row.content) in done:
                    self._done += 1
                elif row.error is not None:
                    self._invalid += 1
                elif self._options.limit is None or self._to_send < self._options.limit:
                    self.add(row.variables or {}, row.tags, row.line)  # pyright: ignore[reportArgumentType] - as bound
            await asyncio.sleep(0)

    async def take(self, job_id: int, chosen: frozenset[int] | None = None) -> None:
        """Add the rows that a job has still to send, as its ledger has them; `chosen` ones, None: all."""
        limit = self._options.limit
        for page in self._pending(job_id):
            for row in page:
                if self._to_send == limit:
                    return
                if chosen is None or row.id in chosen:
                    self._rows += 1
                    self.add(row.variables or {}, row.tags, row.line)  # pyright: ignore[reportArgumentType] - as bound
            await asyncio.sleep(0)

    def add(self, bound: Mapping[str, Value], tags: Mapping[str, str], line: int | None) -> None:
        """Add a row that would be sent; one that makes no prompt is invalid, and said.

        Raises:
            NoUsableKey: no target of its route can be asked.
        """
        template = self._asked.template
        try:
            load, packs = self._load(tags)
            prompt = template.render(bound, prefix=True)
        except (TemplateError, UsageError) as cause:
            self._invalid += 1
            self._unmade += 1
            if self._unmade <= _TOLD:
                self._session.say(f"line {line}: {cause}")
            return
        size = max_input_tokens(prompt, template.spec.output)
        packs.add(prompt, tags, bound, self._count(prompt, size))
        load.sizes[size] += 1
        self._to_send += 1

    def quote(self, manner: str = "") -> Quote:
        """What all that was added comes to.

        Args:
            manner: how the table is written, where that had to be detected.
        """
        template = self._asked.template
        loads = tuple(self._loads.values())
        per_token = self._estimated / self._counted if self._counted else 0.0
        return make_quote(
            template=str(template.ref),
            template_digest=template.digest,
            job=self._asked.job,
            counts=Counts(self._rows, self._to_send, self._done, self._invalid, self._duplicates),
            loads=tuple(load for load, _ in loads),
            accounts=tuple(self._accounts.values()),
            basis=Basis(
                per_token,
                self._options.concurrency,
                self._to_send,
                self._estimated,
                tuple((prefix_tokens(prefix), rows) for prefix, rows in self._begun.items()),
            ),
            answers=self._history.answers,
            manner=manner,
            packing=together([packs.saving() for load, packs in loads if load.rows]),
        )

    # ----------------------------------------------------------------------- the rows

    def _done_of(self, page: Iterable[RowStart]) -> frozenset[tuple[str, str]]:
        job_id = self._asked.job_id
        if job_id is None or self._ledger is None:
            return frozenset()
        again = AGAIN if self._options.retry_failed else ()
        return self._ledger.jobs.ended_keys(job_id, [row.key for row in page], again)

    def _seen_before(self, row: RowStart) -> bool:
        """Whether a row before it has the same content; a row that goes by its content tells by its name."""
        if self._seen is None:
            return row.key != row_key(row.content, 0)
        return bool(self._seen.next(row.content))

    def _pending(self, job_id: int) -> Iterator[list[RowRecord]]:
        assert self._ledger is not None  # noqa: S101 - a job is in a ledger
        rows = self._ledger.jobs.pending_rows(job_id)
        while page := list(islice(rows, _PAGE)):
            yield page

    def _count(self, prompt: Prompt, size: int) -> int:
        """Count the tokens of the first rows, and of some of the others; returns for how many it stands."""
        self._sampled += 1
        every = next(each for rows, each in _COUNTED if rows is None or self._sampled <= rows)
        if self._sampled % every:
            return 0
        self._estimated += every * estimate_input_tokens(prompt, self._asked.template.spec.output)
        self._counted += every * (size - PER_CALL)
        if prompt.prefix is not None:
            self._begun[prompt.prefix] += every
        return every

    def _load(self, tags: Mapping[str, str]) -> tuple[Load, PackTally]:
        """The load of rows with such tags: as far as rules and budgets look at them."""
        settings, template = self._session.settings, self._asked.template.ref.name
        capped = settings.budgets.tags
        mine = tuple(tag for tag in tags.items() if tag in capped) if capped else ()
        key = (settings.rules.ruling(template, tags), mine)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = self._new_load(tags)
        return load

    def _new_load(self, tags: Mapping[str, str]) -> tuple[Load, PackTally]:
        asked = self._asked
        route, plan = way_of(self._session, asked.template.ref.name, asked.route, asked.detours, tags)
        offers = tuple(self._offers.of(planned.target, route, planned.weight) for planned in plan.targets)
        last = None if plan.last_resort is None else self._offers.of(plan.last_resort, route)
        own = f"job:{asked.job_id or 'new'}"
        scopes = self._session.scopes(own, self._options.cap_pico, tags)
        hard = [(scope.key, scope.cap_pico) for scope in scopes if scope.cap_pico is not None]
        for key, cap_pico in hard:
            if key not in self._accounts:
                self._accounts[key] = self._account(key, cap_pico)
        packs = PackTally(self._session, asked.template, route, plan, offers[0], self._options.pack)
        return Load(offers, plan.strategy, last, tuple(key for key, _ in hard)), packs

    def _account(self, key: str, cap_pico: int) -> Account:
        record = None if self._ledger is None else self._ledger.reports.budget(key)
        if record is None:
            return Account(key, cap_pico, cap_pico)
        left = 0 if record.stops_at(cap_pico) else max(0, cap_pico - record.spent_pico)
        return Account(key, cap_pico, left)


async def check_caps(
    session: Session, asked: Asked, options: JobOptions, ledger: Ledger, chosen: frozenset[int] | None
) -> None:
    """Refuse to begin what may not come to its end; `chosen` are the rows of a sample, None: all.

    Raises:
        BudgetStop: the worst case of the rows that are left doesn't fit a hard cap.
    """
    if asked.job_id is None or (options.cap_pico is None and not session.settings.budgets.hard):
        return
    quoter = Quoter(session, asked, options, ledger)
    await quoter.take(asked.job_id, chosen)
    quote = quoter.quote()
    if quote.short:
        raise _too_dear(f"{asked.job}", quote)


def _too_dear(name: str, quote: Quote) -> BudgetStop:
    need = quote.short[0]
    usual = f", usually about {dollars(quote.figures.expected_pico)}" if quote.answers else ""
    return BudgetStop(
        f"the job {name!r} may need {dollars(need.worst_pico)} for {counted(quote.counts.to_send, 'row')}{usual}; "
        f"{scope_words(need.scope)} has {dollars(need.left_pico)} left of {dollars(need.cap_pico)}",
        remedy="Nothing was sent. Raise the cap, or run it with --until-budget: it goes as far as the cap lets it, "
        "and the same command goes on.",
    )


@dataclass(frozen=True, slots=True)
class Account:
    """A hard cap that rows count under: what is left of it now, in pico-USD."""

    scope: str
    cap_pico: int
    left_pico: int


@dataclass(frozen=True, slots=True)
class TargetQuote:
    """What it would be if this target answered all rows that may go to it; `answers` are known of it."""

    target: Target
    rows: int
    answers: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class StrategyQuote:
    """What it would be under a strategy; `first` are the targets that it asks first."""

    strategy: str
    first: tuple[Target, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Need:
    """A hard cap, and the worst case of the rows under it; None where a price is unknown."""

    scope: str
    cap_pico: int
    left_pico: int
    worst_pico: int | None

    @property
    def fits(self) -> bool:
        """Whether the rows surely fit; nothing is sure without a price."""
        return self.worst_pico is not None and self.worst_pico <= self.left_pico


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of an input: `done` ones are paid, `duplicates` are sent as often as they are there."""

    rows: int = 0
    to_send: int = 0
    done: int = 0
    invalid: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """What a batch would cost and take. Money is pico-USD, None where a price is unknown.

    Attributes:
        template: the version, as `ugc/script@2`.
        template_digest: its digest.
        job: the job that would go on; None where one would begin.
        counts: the rows.
        strategy: the route's own: `figures` are by it.
        figures: the whole.
        usual_pico: a cap with which such batches usually come to their end: long answers, lost
            attempts, and room for the ceiling of one row.
        answers: how many answers of the ledger it rests on.
        targets: by target, as if it answered all.
        strategies: by strategy.
        needs: the hard caps that are in force.
        manner: how the table is written, where that had to be detected.
        packing: what packing would save; all other figures are of rows that go alone. None where no
            row is sent.
    """

    template: str
    template_digest: str
    job: str | None
    counts: Counts
    strategy: str
    figures: Figures
    usual_pico: int | None
    answers: int
    targets: tuple[TargetQuote, ...]
    strategies: tuple[StrategyQuote, ...]
    needs: tuple[Need, ...] = ()
    manner: str = ""
    packing: Packing | None = None

    @property
    def short(self) -> tuple[Need, ...]:
        """The caps that the worst case doesn't fit; one without a price is refused elsewhere."""
        return tuple(need for need in self.needs if need.worst_pico is not None and not need.fits)


def make_quote(  # noqa: PLR0913 - what a quote is made of
    *,
    template: str,
    template_digest: str,
    job: str | None,
    counts: Counts,
    loads: Sequence[Load],
    accounts: Sequence[Account],
    basis: Basis,
    answers: int,
    manner: str = "",
    packing: Packing | None = None,
) -> Quote:
    """Put a quote together.

    Args:
        template: the version.
        template_digest: its digest.
        job: the job that would go on.
        counts: what was read.
        loads: the rows, by where they may go and what they count in.
        accounts: the hard caps in force.
        basis: how tokens were estimated.
        answers: how many answers of the ledger the estimates stand on.
        manner: how the table is written.
        packing: what packing would save.
    """
    by_load = [{offer.target: figures_at(offer, load, basis) for offer in load.offers} for load in loads]
    worsts = [load.worst_pico() for load in loads]
    own = [
        mixed(load, load.strategy, each, worst)
        for load, each, worst in zip(loads, by_load, worsts, strict=True)
    ]
    figures = added(own)
    largest = max((load.largest_pico() for load in loads), default=0)
    usual = _within(figures.worst_pico, None if figures.high_pico is None else figures.high_pico + largest)
    return Quote(
        template=template,
        template_digest=template_digest,
        job=job,
        counts=counts,
        strategy=" ".join(dict.fromkeys(load.strategy for load in loads)) or "ordered",
        figures=figures,
        usual_pico=usual,
        answers=answers,
        targets=_targets(loads, by_load),
        strategies=tuple(_strategies(loads, by_load, worsts)),
        needs=tuple(_need(account, loads, worsts) for account in accounts),
        manner=manner,
        packing=packing,
    )


def _within(worst_pico: int | None, pico: int | None) -> int | None:
    """An amount, which needn't pass the worst case."""
    return pico if pico is None or worst_pico is None else min(pico, worst_pico)


def _need(account: Account, loads: Sequence[Load], worsts: Sequence[int | None]) -> Need:
    mine = [worst for load, worst in zip(loads, worsts, strict=True) if account.scope in load.scopes]
    return Need(account.scope, account.cap_pico, account.left_pico, total(mine))


def _targets(loads: Sequence[Load], by_load: Sequence[Mapping[Target, Figures]]) -> tuple[TargetQuote, ...]:
    rows: Counter[Target] = Counter()
    answers: dict[Target, int] = {}
    parts: dict[Target, list[Figures]] = {}
    for load, figures in zip(loads, by_load, strict=True):
        for offer in load.offers:
            rows[offer.target] += load.rows
            answers[offer.target] = 0 if offer.past is None else offer.past.answers
            parts.setdefault(offer.target, []).append(figures[offer.target])
    return tuple(
        TargetQuote(target, rows[target], answers[target], added(each)) for target, each in parts.items()
    )


def _strategies(
    loads: Sequence[Load], by_load: Sequence[Mapping[Target, Figures]], worsts: Sequence[int | None]
) -> list[StrategyQuote]:
    found: list[StrategyQuote] = []
    for strategy in STRATEGIES:
        parts: list[Figures] = []
        first: dict[Target, None] = {}
        for load, figures, worst in zip(loads, by_load, worsts, strict=True):
            parts.append(mixed(load, strategy, figures, worst))
            first.update(dict.fromkeys(shares(strategy, load.offers, figures)))
        found.append(StrategyQuote(strategy, tuple(first), added(parts)))
    return found


_GROUPS: Final = 10_000
"""So many groups are told apart, so that a table of any length is counted in bounded memory; rows of others go alone."""


_CANNOT: Final = "rows of this template can't share a request"


_TOO_LONG: Final = "two rows together are too long for a request"


class PackTally:
    """Rows that fare alike, as packs would hold them.

    Args:
        session: settings.
        template: makes their prompts.
        route: theirs.
        plan: where they may go.
        offer: the target that is asked first.
        pack: how many rows go together as the user says; `AUTO` or 1: as many as pay off.
    """

    def __init__(
        self, session: Session, template: Template, route: Route, plan: Plan, offer: Offer, pack: int
    ) -> None:
        self._catalog = session.settings.catalog
        self._template = template
        self._params = session.params(template, route)
        self._plan = plan
        self._offer = offer
        self._said = None if pack in (AUTO, 1) else pack
        self._groups: Counter[int] = Counter()
        self._others = 0
        self._judged: Judged | None = None
        self._first = Sizes(0, 0, 0)
        self._shared = self._own = self._counted = 0

    def add(
        self, prompt: Prompt, tags: Mapping[str, str], bound: Mapping[str, Value], stands_for: int
    ) -> None:
        """Add a row.

        Args:
            prompt: its own.
            tags: its own.
            bound: its variables.
            stands_for: of so many rows this one's tokens are counted; 0: they aren't.
        """
        if self._judged is None:
            self._judged = self._judge(bound)
        if self._judged.size == 1:
            self._others += 1
        else:
            self._group(prompt, tags)
        if stands_for:
            shared, own = tokens_of(prompt, self._template.spec.output)
            self._shared += stands_for * shared
            self._own += stands_for * own
            self._counted += stands_for

    def saving(self) -> Packing:
        """What packing saves of the rows that were added."""
        groups = Counter(self._groups.values())
        groups[1] += self._others
        sizes = self._first
        if self._counted:
            shared, own = round(self._shared / self._counted), round(self._own / self._counted)
            sizes = Sizes(shared, own, sizes.reply, sizes.cached)
        return packing_of(self._offer.target, self._offer.tariff, sizes, self._judged or Judged(1), groups)

    def _group(self, prompt: Prompt, tags: Mapping[str, str]) -> None:
        shared = tuple(message.content for message in prompt.messages[:-1])
        key = hash((shared, frozenset(shared_tags(tags).items())))
        if key in self._groups or len(self._groups) < _GROUPS:
            self._groups[key] += 1
        else:
            self._others += 1

    def _judge(self, bound: Mapping[str, Value]) -> Judged:
        """How many go together, by the first row, as a run does it."""
        prompt = self._template.render(bound, prefix=True)
        call = Call(prompt, self._params, self._template.spec.output)
        self._first = sizes_of(call, self._offer, self._catalog)
        if not can_pack(prompt, call.params, call.schema):
            return Judged(1, _CANNOT, self._said)
        rows = self._said
        if rows is None:
            size, why = pays(self._offer, self._first)
            if why:
                return Judged(1, why)
            rows = size.rows
        limit = call.params.max_output_tokens or 0
        fitting = room_of(self._catalog, self._plan).most(prompt, limit, rows)
        return Judged(fitting, "" if fitting > 1 else _TOO_LONG, self._said)
