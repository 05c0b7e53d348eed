"""The quote of a batch: its rows are rendered and counted, and priced with the history of the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from promptkit.engine.context import Session
from promptkit.engine.pack import can_pack
from promptkit.errors import BudgetStop, TemplateError, UsageError, counted
from promptkit.ledger.records import JobRecord, RowStart
from promptkit.providers.params import prefix_tokens
from promptkit.providers.tokens import PER_CALL, estimate_input_tokens, max_input_tokens
from promptkit.routing.budgets import scope_words
from promptkit.routing.plan import STRATEGIES
from promptkit.templates.template import Template
from promptkit.types import Call, Json, Prefix, Prompt, Route, Target, dollars

from .binding import Ordinals, row_key
from .estimates import Basis, Figures, History, Load, Offer, Offers, added, figures_at, mixed, shares, total
from .options import AUTO, RETRIED_STATES, JobOptions, Pinned
from .pack_size import Packing, Sizes, packing_of, size_that_pays, sizes_of, together, tokens_of
from .packing import request_limits, shared_tags

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.routing.flow import Plan

    from .runner import PendingRows

_PAGE = 500
_MAX_NOTICES = 5


async def check_caps(
    session: Session, pinned: Pinned, options: JobOptions, job: JobRecord, pending: PendingRows
) -> None:
    """Refuse to start a job that may not reach its end.

    Raises:
        BudgetStop: the worst case of the pending rows exceeds a hard cap.
    """
    if options.cap_pico is None and not session.settings.budgets.hard:
        return
    quoter = Quoter(session, pinned, options, pending.ledger, job)
    await quoter.add_pending(pending)
    quote = quoter.quote()
    if quote.short:
        need = quote.short[0]
        usual = f", usually about {dollars(quote.figures.expected_pico)}" if quote.replies else ""
        raise BudgetStop(
            f"the job {job.name!r} may need {dollars(need.worst_pico)} for {counted(quote.counts.to_send, 'row')}{usual}; "
            f"{scope_words(need.scope)} has {dollars(need.left_pico)} left of {dollars(need.cap_pico)}",
            remedy="Nothing was sent. Raise the cap, or use --until-budget: the job then runs until the cap stops it, "
            "and the same command continues it.",
        )


class Quoter:
    """Adds up rows to a quote.

    Args:
        session: settings, rules and clock.
        pinned: the template and the routes of the rows.
        options: how the batch would run.
        ledger: the history; None for none.
        job: the job, if it has started.
    """

    def __init__(
        self,
        session: Session,
        pinned: Pinned,
        options: JobOptions,
        ledger: Ledger | None,
        job: JobRecord | None,
    ) -> None:
        self._session = session
        self._pinned = pinned
        self._options = options
        self._ledger = ledger
        self._job = job
        self._history = History(pinned.template, ledger)
        self._offers = Offers(session, pinned.template, self._history)
        self._loads: dict[object, tuple[Load, PackTally]] = {}
        self._accounts: dict[str, Account] = {}
        self._tokens = _TokenSample()
        self._counts: Counter[str] = Counter()
        """The fields of `Counts`, and the rows that can't be rendered."""
        self._contents = None if options.key_column is None else Ordinals()
        """The contents of the rows, if a column identifies them."""

    async def add_input(self, rows: Iterable[RowStart]) -> None:
        """Add the rows of an input; rows that have a result in the job are only counted."""
        limit, counts = self._options.limit, self._counts
        source = iter(rows)
        while page := list(islice(source, _PAGE)):
            ended = self._ended(page)
            for row in page:
                counts["rows"] += 1
                counts["duplicates"] += row.error is None and self._is_duplicate(row)
                if (row.key, row.content) in ended:
                    counts["done"] += 1
                elif row.error is not None:
                    counts["invalid"] += 1
                elif limit is None or counts["to_send"] < limit:
                    self._add(row.variables, row.tags, row.line)
            await asyncio.sleep(0)

    async def add_pending(self, rows: PendingRows) -> None:
        """Add the pending rows of the job, as the ledger has them."""
        for number, row in enumerate(rows):
            if self._counts["to_send"] == self._options.limit:
                return
            self._counts["rows"] += 1
            self._add(row.variables, row.tags, row.line)
            if number % _PAGE == 0:
                await asyncio.sleep(0)

    def _ended(self, page: Iterable[RowStart]) -> frozenset[tuple[str, str]]:
        """Return the rows of a page that have a result in the job: key and content."""
        if self._job is None or self._ledger is None:
            return frozenset()
        retried = RETRIED_STATES if self._options.retry_failed else ()
        return self._ledger.jobs.ended_keys(self._job.id, [row.key for row in page], retried)

    def _is_duplicate(self, row: RowStart) -> bool:
        """Return whether a row before it has the same content."""
        if self._contents is None:
            return row.key != row_key(row.content, 0)
        return bool(self._contents.next(row.content))

    def _add(self, variables: Mapping[str, object] | None, tags: Mapping[str, str], line: int | None) -> None:
        """Add a row that would be sent; a row that can't be rendered is invalid, with a notice.

        Raises:
            NoUsableKey: no target of its route has a usable key.
        """
        template = self._pinned.template
        try:
            load, packs = self._load(tags)
            prompt = template.render(variables or {}, prefix=True)  # pyright: ignore[reportArgumentType] - bound before
        except (TemplateError, UsageError) as cause:
            self._counts["invalid"] += 1
            self._counts["not_rendered"] += 1
            if self._counts["not_rendered"] <= _MAX_NOTICES:
                self._session.notice(f"line {line}: {cause}")
            return
        size = max_input_tokens(prompt, template.spec.output)
        weight = self._tokens.add(prompt, size, template.spec.output)
        packs.add(prompt, tags, weight)
        load.sizes[size] += 1
        self._counts["to_send"] += 1

    def _load(self, tags: Mapping[str, str]) -> tuple[Load, PackTally]:
        """Return the load of rows with such tags, as far as rules and budgets depend on them."""
        settings, template = self._session.settings, self._pinned.template.ref.name
        capped = settings.budgets.tags
        own = tuple(tag for tag in tags.items() if tag in capped) if capped else ()
        key = (settings.rules.ruling(template, tags), own)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = self._new_load(tags)
        return load

    def _new_load(self, tags: Mapping[str, str]) -> tuple[Load, PackTally]:
        route, plan = self._pinned.plan(self._session, tags)
        offers = tuple(self._offers.of(planned.target, route, planned.weight) for planned in plan.targets)
        last = None if plan.last_resort is None else self._offers.of(plan.last_resort, route)
        own = f"job:{'new' if self._job is None else self._job.id}"
        scopes = self._session.scopes(own, self._options.cap_pico, tags)
        hard = [(scope.key, scope.cap_pico) for scope in scopes if scope.cap_pico is not None]
        for key, cap_pico in hard:
            if key not in self._accounts:
                self._accounts[key] = self._account(key, cap_pico)
        packs = PackTally(self._session, self._pinned.template, route, plan, offers[0], self._options.pack)
        return Load(offers, plan.strategy, last, tuple(key for key, _ in hard)), packs

    def _account(self, key: str, cap_pico: int) -> Account:
        record = None if self._ledger is None else self._ledger.reports.budget(key)
        if record is None:
            return Account(key, cap_pico, cap_pico)
        left = 0 if record.stops_at(cap_pico) else max(0, cap_pico - record.spent_pico)
        return Account(key, cap_pico, left)

    def quote(self, notice: str = "") -> Quote:
        """Return the quote of all rows that were added.

        Args:
            notice: encoding and delimiter of the table, if they had to be detected.
        """
        template, counts = self._pinned.template, self._counts
        return make_quote(
            template=str(template.ref),
            template_digest=template.digest,
            job=None if self._job is None else self._job.name,
            counts=Counts(
                counts["rows"], counts["to_send"], counts["done"], counts["invalid"], counts["duplicates"]
            ),
            loads=tuple(load for load, _ in self._loads.values()),
            accounts=tuple(self._accounts.values()),
            basis=self._tokens.basis(self._options.concurrency, counts["to_send"]),
            replies=self._history.replies,
            notice=notice,
            packing=together([packs.saving() for load, packs in self._loads.values() if load.rows]),
        )


_SAMPLE = ((200, 1), (10_000, 50), (None, 500))
"""Up to so many rows, one in so many is counted: counting tokens takes four times as long as rendering."""


@dataclass(slots=True)
class _TokenSample:
    """The input tokens of a sample of the rows, extrapolated to all."""

    rows: int = 0
    estimated: int = 0
    most: int = 0
    """The tokens by `max_input_tokens`."""
    prefixes: Counter[Prefix] = field(default_factory=Counter[Prefix])
    """How many rows begin with the same prefix."""

    def add(self, prompt: Prompt, size: int, schema: Mapping[str, Json] | None) -> int:
        """Add a row; return for how many rows its tokens count, 0 if they are not counted."""
        self.rows += 1
        weight = next(weight for rows, weight in _SAMPLE if rows is None or self.rows <= rows)
        if self.rows % weight:
            return 0
        self.estimated += weight * estimate_input_tokens(prompt, schema)
        self.most += weight * (size - PER_CALL)
        if prompt.prefix is not None:
            self.prefixes[prompt.prefix] += weight
        return weight

    def basis(self, concurrency: int, rows: int) -> Basis:
        """Return the basis of the figures for so many rows."""
        per_token = self.estimated / self.most if self.most else 0.0
        beginnings = tuple((prefix_tokens(prefix), count) for prefix, count in self.prefixes.items())
        return Basis(per_token, concurrency, rows, self.estimated, beginnings)


@dataclass(frozen=True, slots=True)
class Account:
    """A hard cap that rows count under, and what is left of it now, in pico-USD."""

    scope: str
    cap_pico: int
    left_pico: int


@dataclass(frozen=True, slots=True)
class TargetQuote:
    """The figures if this target served all rows that may go to it; `replies` of it are known."""

    target: Target
    rows: int
    replies: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class StrategyQuote:
    """The figures under a strategy; `first` are its first targets."""

    strategy: str
    first: tuple[Target, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Need:
    """A hard cap, and the worst case of the rows under it; None if a price is unknown."""

    scope: str
    cap_pico: int
    left_pico: int
    worst_pico: int | None

    @property
    def fits(self) -> bool:
        """Whether the worst case fits; never true without a price."""
        return self.worst_pico is not None and self.worst_pico <= self.left_pico


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of an input: `done` rows are paid, `duplicates` are sent as often as they appear."""

    rows: int = 0
    to_send: int = 0
    done: int = 0
    invalid: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """The cost and the duration of a batch. Money is pico-USD, None if a price is unknown.

    Attributes:
        template: the version, as `ugc/script@2`.
        template_digest: its digest.
        job: the job that would continue; None if it would start.
        counts: the rows.
        strategy: the strategy of the route.
        figures: the figures under this strategy.
        usual_pico: a cap that usually suffices: long replies, unknown outcomes, and the max cost of
            one row on top.
        replies: how many replies in the ledger it is based on.
        targets: by target, as if it served all rows.
        strategies: by strategy.
        needs: the hard caps that apply.
        notice: encoding and delimiter of the table, if they had to be detected.
        packing: what packing would save; all other figures are without packs. None if no row is sent.
    """

    template: str
    template_digest: str
    job: str | None
    counts: Counts
    strategy: str
    figures: Figures
    usual_pico: int | None
    replies: int
    targets: tuple[TargetQuote, ...]
    strategies: tuple[StrategyQuote, ...]
    needs: tuple[Need, ...] = ()
    notice: str = ""
    packing: Packing | None = None

    @property
    def short(self) -> tuple[Need, ...]:
        """The caps that the worst case exceeds; targets without a price are refused elsewhere."""
        return tuple(need for need in self.needs if need.worst_pico is not None and not need.fits)


def make_quote(  # noqa: PLR0913 - the parts of a quote
    *,
    template: str,
    template_digest: str,
    job: str | None,
    counts: Counts,
    loads: Sequence[Load],
    accounts: Sequence[Account],
    basis: Basis,
    replies: int,
    notice: str = "",
    packing: Packing | None = None,
) -> Quote:
    """Return a quote.

    Args:
        template: the version.
        template_digest: its digest.
        job: the job that would continue.
        counts: the rows by what happens to them.
        loads: the rows by their targets and caps.
        accounts: the hard caps.
        basis: how tokens were estimated.
        replies: how many replies in the ledger the estimates are based on.
        notice: encoding and delimiter of the table.
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
        replies=replies,
        targets=_targets(loads, by_load),
        strategies=tuple(_strategies(loads, by_load, worsts)),
        needs=tuple(_need(account, loads, worsts) for account in accounts),
        notice=notice,
        packing=packing,
    )


def _within(worst_pico: int | None, pico: int | None) -> int | None:
    """Return an amount, at most the worst case."""
    return pico if pico is None or worst_pico is None else min(pico, worst_pico)


def _need(account: Account, loads: Sequence[Load], worsts: Sequence[int | None]) -> Need:
    own = [worst for load, worst in zip(loads, worsts, strict=True) if account.scope in load.scopes]
    return Need(account.scope, account.cap_pico, account.left_pico, total(own))


def _targets(loads: Sequence[Load], by_load: Sequence[Mapping[Target, Figures]]) -> tuple[TargetQuote, ...]:
    rows: Counter[Target] = Counter()
    replies: dict[Target, int] = {}
    parts: dict[Target, list[Figures]] = {}
    for load, figures in zip(loads, by_load, strict=True):
        for offer in load.offers:
            rows[offer.target] += load.rows
            replies[offer.target] = 0 if offer.past is None else offer.past.replies
            parts.setdefault(offer.target, []).append(figures[offer.target])
    return tuple(
        TargetQuote(target, rows[target], replies[target], added(each)) for target, each in parts.items()
    )


def _strategies(
    loads: Sequence[Load], by_load: Sequence[Mapping[Target, Figures]], worsts: Sequence[int | None]
) -> list[StrategyQuote]:
    quotes: list[StrategyQuote] = []
    for strategy in STRATEGIES:
        parts: list[Figures] = []
        first: dict[Target, None] = {}
        for load, figures, worst in zip(loads, by_load, worsts, strict=True):
            parts.append(mixed(load, strategy, figures, worst))
            first.update(dict.fromkeys(shares(strategy, load.offers, figures)))
        quotes.append(StrategyQuote(strategy, tuple(first), added(parts)))
    return quotes


_MAX_GROUPS = 10_000
"""So many groups are counted, to bound the memory for long tables; further rows count as single ones."""


class PackTally:
    """Rows with the same targets and caps, as packs would contain them.

    Args:
        session: settings.
        template: of the rows.
        route: of the rows.
        plan: their targets.
        offer: the first target.
        pack: how many rows share a request; `AUTO` or 1: as many as pay off.
    """

    def __init__(
        self, session: Session, template: Template, route: Route, plan: Plan, offer: Offer, pack: int
    ) -> None:
        self._catalog = session.settings.catalog
        self._schema = template.spec.output
        self._params = session.params(template, route)
        self._plan = plan
        self._offer = offer
        self._requested = None if pack in (AUTO, 1) else pack
        self._choice: tuple[int, str, Sizes] | None = None
        self._groups: Counter[int] = Counter()
        self._single = 0
        self._tokens: Counter[str] = Counter()

    def add(self, prompt: Prompt, tags: Mapping[str, str], weight: int) -> None:
        """Add a row.

        Args:
            prompt: its prompt, with its prefix.
            tags: its tags.
            weight: for how many rows its tokens count; 0: they are not counted.
        """
        if self._choice is None:
            self._choice = self._choose(prompt)
        if self._choice[0] == 1:
            self._single += 1
        else:
            self._add_to_group(prompt, tags)
        if weight:
            shared, own = tokens_of(prompt, self._schema)
            self._tokens.update(shared=weight * shared, own=weight * own, rows=weight)

    def _add_to_group(self, prompt: Prompt, tags: Mapping[str, str]) -> None:
        shared = tuple(message.content for message in prompt.messages[:-1])
        key = hash((shared, frozenset(shared_tags(tags).items())))
        if key in self._groups or len(self._groups) < _MAX_GROUPS:
            self._groups[key] += 1
        else:
            self._single += 1

    def saving(self) -> Packing:
        """Return what packing saves of the rows that were added."""
        groups = Counter(self._groups.values())
        groups[1] += self._single
        size, reason, sizes = self._choice or (1, "", Sizes(0, 0, 0))
        if rows := self._tokens["rows"]:
            shared, own = round(self._tokens["shared"] / rows), round(self._tokens["own"] / rows)
            sizes = Sizes(shared, own, sizes.reply, sizes.cached)
        requested = self._requested
        return packing_of(self._offer, sizes, groups, size=size, reason=reason, requested=requested)

    def _choose(self, prompt: Prompt) -> tuple[int, str, Sizes]:
        """Return the rows per request, the reason if it is 1, and the tokens of the first row, as in a run."""
        call = Call(prompt, self._params, self._schema)
        sizes = sizes_of(call, self._offer, self._catalog)
        if not can_pack(prompt, call.params, call.schema):
            return 1, "rows of this template can't share a request", sizes
        rows = self._requested
        if rows is None:
            size, reason = size_that_pays(self._offer, sizes)
            if reason:
                return 1, reason, sizes
            rows = size.rows
        limit = call.params.max_output_tokens or 0
        rows = request_limits(self._catalog, self._plan).most(prompt, limit, rows)
        return rows, "" if rows > 1 else "two rows together are too long for a request", sizes
