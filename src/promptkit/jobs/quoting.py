"""A batch's quote: its rows are read, rendered and counted, and the ledger's history is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from promptkit.adapters import prefix_tokens
from promptkit.batch import Ordinals, row_key
from promptkit.batch.figures import Basis, Load
from promptkit.batch.pack_saving import together
from promptkit.batch.quote import Account, Counts, Quote, make_quote
from promptkit.errors import BudgetStop, TemplateError, UsageError, counted
from promptkit.ledger import RowRecord, RowStart
from promptkit.routing.budgets import scope_words
from promptkit.session import Session
from promptkit.templates import Skeleton
from promptkit.tokens import PER_CALL, ceiling_input_tokens, estimate_input_tokens
from promptkit.types import Prefix, Prompt, Route, Value, dollars

from .history import History, Offers
from .options import AGAIN, JobOptions
from .pack_quoting import PackTally
from .ways import way_of

if TYPE_CHECKING:
    from promptkit.ledger import Ledger

_PAGE: Final = 500
_COUNTED: Final = ((200, 1), (10_000, 50), (None, 500))
"""Counting a prompt's tokens takes four times as long as making it, so some rows stand for all: up to so many rows, one in so many."""
_TOLD: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What the rows are for, and over which way: as a job has pinned it, or would."""

    skeleton: Skeleton
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
        self._history = History(asked.skeleton, ledger)
        self._offers = Offers(session, asked.skeleton, self._history)
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
        skeleton = self._asked.skeleton
        try:
            load, packs = self._load(tags)
            prompt = skeleton.render(bound, prefix=True)
        except (TemplateError, UsageError) as cause:
            self._invalid += 1
            self._unmade += 1
            if self._unmade <= _TOLD:
                self._session.say(f"line {line}: {cause}")
            return
        size = ceiling_input_tokens(prompt, skeleton.spec.output)
        packs.add(prompt, tags, bound, self._count(prompt, size))
        load.sizes[size] += 1
        self._to_send += 1

    def quote(self, manner: str = "") -> Quote:
        """What all that was added comes to.

        Args:
            manner: how the table is written, where that had to be detected.
        """
        skeleton = self._asked.skeleton
        loads = tuple(self._loads.values())
        per_token = self._estimated / self._counted if self._counted else 0.0
        return make_quote(
            template=str(skeleton.ref),
            template_digest=skeleton.digest,
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
        return self._ledger.ended_rows(job_id, [row.key for row in page], again)

    def _seen_before(self, row: RowStart) -> bool:
        """Whether a row before it has the same content; a row that goes by its content tells by its name."""
        if self._seen is None:
            return row.key != row_key(row.content, 0)
        return bool(self._seen.next(row.content))

    def _pending(self, job_id: int) -> Iterator[tuple[RowRecord, ...]]:
        assert self._ledger is not None  # noqa: S101 - a job is in a ledger
        after = -1
        while page := self._ledger.pending_rows(job_id, after, _PAGE):
            after = page[-1].position
            yield page

    def _count(self, prompt: Prompt, size: int) -> int:
        """Count the tokens of the first rows, and of some of the others; returns for how many it stands."""
        self._sampled += 1
        every = next(each for rows, each in _COUNTED if rows is None or self._sampled <= rows)
        if self._sampled % every:
            return 0
        self._estimated += every * estimate_input_tokens(prompt, self._asked.skeleton.spec.output)
        self._counted += every * (size - PER_CALL)
        if prompt.prefix is not None:
            self._begun[prompt.prefix] += every
        return every

    def _load(self, tags: Mapping[str, str]) -> tuple[Load, PackTally]:
        """The load of rows with such tags: as far as rules and budgets look at them."""
        settings, template = self._session.settings, self._asked.skeleton.ref.name
        capped = settings.budgets.tags
        mine = tuple(tag for tag in tags.items() if tag in capped) if capped else ()
        key = (settings.rules.ruling(template, tags), mine)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = self._new_load(tags)
        return load

    def _new_load(self, tags: Mapping[str, str]) -> tuple[Load, PackTally]:
        asked = self._asked
        route, plan = way_of(self._session, asked.skeleton.ref.name, asked.route, asked.detours, tags)
        offers = tuple(self._offers.of(hop.target, route, hop.weight) for hop in plan.hops)
        last = None if plan.last_resort is None else self._offers.of(plan.last_resort, route)
        own = f"job:{asked.job_id or 'new'}"
        scopes = self._session.scopes(own, self._options.cap_pico, tags)
        hard = [(scope.key, scope.cap_pico) for scope in scopes if scope.cap_pico is not None]
        for key, cap_pico in hard:
            if key not in self._accounts:
                self._accounts[key] = self._account(key, cap_pico)
        packs = PackTally(self._session, asked.skeleton, route, plan, offers[0], self._options.pack)
        return Load(offers, plan.strategy, last, tuple(key for key, _ in hard)), packs

    def _account(self, key: str, cap_pico: int) -> Account:
        record = None if self._ledger is None else self._ledger.spent(key)
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
