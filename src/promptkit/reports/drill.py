"""One outage played through: a job over the user's own route, and what the simulator saw of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

from promptkit._util.notices import make_logger
from promptkit.authoring.diff import BARE, Example, completed
from promptkit.batch.binding import Binding
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.batch.tables import Record
from promptkit.config.keys import Keys
from promptkit.config.settings import Settings
from promptkit.engine.calls import make_reply
from promptkit.engine.context import Session
from promptkit.errors import AllTargetsFailed, BudgetStop, InputError, NoUsableKey, TemplateError, UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import RowState
from promptkit.providers.prices import Prices
from promptkit.routing.catalog import Catalog
from promptkit.routing.plan import make_plan
from promptkit.simulator.models import Models, card_of
from promptkit.simulator.scenario import ModelRule, Scenario
from promptkit.simulator.server import Simulator
from promptkit.templates.template import Template
from promptkit.types import Json, Kind, Model, Provider, Route, Status, Target, Usage, Variable

from .drill_scenarios import STREAM, Outage, Player
from .fast_clock import FastClock

_LATENCY_MS: Final = 400.0


_CRON_S: Final = 300.0
"""A job whose rows wait is started again after so long, as cron would, while the outage lasts and once after."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to play: a template over a route, for these rows."""

    ref: str
    rows: Sequence[Mapping[str, object]]
    route: Route
    concurrency: int = 4
    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    by_rules: bool = True


@dataclass(frozen=True, slots=True)
class Played:
    """An outage and what came of it."""

    outage: Outage
    tally: Tally


@dataclass(slots=True)
class _Watch:
    """When rows were answered."""

    steady: Callable[[], float]
    began_s: float
    first_s: float | None = None
    last_s: float = 0.0

    def saw(self, status: Status) -> None:
        at_s = self.steady() - self.began_s
        if self.first_s is None and status in (Status.OK, Status.TRUNCATED):
            self.first_s = at_s
        self.last_s = at_s


def play(
    settings: Settings, scenario: Scenario, order: Order, outages: Iterable[Outage], folder: Path
) -> Iterable[Played]:
    """Play outages one after the other, each with empty books and on a clock of its own.

    Args:
        settings: the user's; neither their keys nor their database are used.
        scenario: the simulator's world, of `scenario_for`.
        order: what is asked.
        outages: what goes wrong.
        folder: where the books may stand; to be thrown away.

    Raises:
        PromptKitError: the rows, the template or the rules can't stand.
    """
    for number, outage in enumerate(outages):
        clock = FastClock()
        with asyncio.Runner(loop_factory=clock.loop) as runner:
            database = folder / f"{number}.db"
            yield Played(outage, runner.run(_play(settings, scenario, order, outage, database, clock)))


async def _play(
    settings: Settings, scenario: Scenario, order: Order, outage: Outage, database: Path, clock: FastClock
) -> Tally:
    async with (
        Simulator(order.seed, _LATENCY_MS, scenario, clock=clock.now) as simulator,
        _session(settings, simulator, scenario, database, clock) as session,
    ):
        ledger = await session.ledger()
        await session.engine()
        watch = _Watch(clock.steady, clock.steady())
        async with _going_wrong(simulator, outage):
            work = _stream if outage.kind == STREAM else _work
            ended = await work(session, order, watch, outage)
        return _count(ledger, simulator, order, watch, ended)


@asynccontextmanager
async def _session(
    settings: Settings, simulator: Simulator, scenario: Scenario, database: Path, clock: FastClock
) -> AsyncGenerator[Session]:
    played = rehearsal(settings, database, address_in(simulator, scenario.ports))
    log = make_logger()
    log.disabled = True  # what fails here is played
    session = Session(played, log, clock=clock.now)
    try:
        yield session
    finally:
        await session.aclose()


@asynccontextmanager
async def _going_wrong(simulator: Simulator, outage: Outage) -> AsyncGenerator[None]:
    """The outage, from now until it ends."""
    simulator.script(outage.faults)
    for name in outage.gone:
        await simulator.down(name)
    ending = asyncio.create_task(_end(simulator, outage))
    try:
        yield
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


async def _end(simulator: Simulator, outage: Outage) -> None:
    if outage.ends_s is not None:
        await asyncio.sleep(outage.ends_s)
        simulator.script(())
        for name in outage.gone:
            await simulator.up(name)


async def _work(session: Session, order: Order, watch: _Watch, outage: Outage) -> _Ended:
    """Run the job, and start it again while its rows wait for an outage that passes."""
    options = JobOptions(
        name="drill", tags=order.tags, concurrency=order.concurrency, by_rules=order.by_rules
    )
    while True:
        async with Job(session, order.ref, order.rows, order.route, options) as job:
            async for result in job.results(stored=False):
                watch.saw(result.status)
            rows = (await job.report()).rows
        stop = "" if job.stop is None else job.stop.message
        played_s = watch.steady() - watch.began_s
        if not rows.get(RowState.PENDING) or outage.ends_s is None or played_s > outage.ends_s + _CRON_S:
            return _Ended(rows, stop)
        await asyncio.sleep(_CRON_S)


async def _stream(session: Session, order: Order, watch: _Watch, outage: Outage) -> _Ended:
    """Stream each row as a call of its own, so many at once; none is started again."""
    del outage  # it stays as it is
    template, slots = session.library.load(order.ref, allow_draft=False), asyncio.Semaphore(order.concurrency)
    columns = list(dict.fromkeys(name for row in order.rows for name in row))
    binding = Binding(columns, template.spec.variables, JobOptions(tags=order.tags), "the rows")

    async def one(row: Record) -> tuple[RowState, str]:
        tags = binding.tags(row)
        named = session.route(None, None, ref=template.ref, tags=tags) if order.by_rules else order.route
        try:
            values = binding.variables(row)
            template.bind(values)
        except (InputError, TemplateError) as error:
            return RowState.INVALID, str(error)
        try:
            async with slots:
                reply = await make_reply(
                    session,
                    template,
                    values,
                    route=named,
                    tags=tags,
                    cap_pico=None,
                    parent_id=None,
                    listen=lambda _: None,
                )
        except (AllTargetsFailed, BudgetStop, NoUsableKey) as error:
            return RowState.FAILED, str(error)
        watch.saw(reply.status)
        return RowState(reply.status.value), ""

    records = (
        Record(number, number, cast("dict[str, Json]", row)) for number, row in enumerate(order.rows, 1)
    )
    ended = await asyncio.gather(*(one(record) for record in records))
    return _Ended(Counter(state for state, _ in ended), next((why for _, why in ended if why), ""))


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the job ended: its rows by state, and what stopped it."""

    rows: Mapping[RowState, int]
    stop: str


def _count(ledger: Ledger, simulator: Simulator, order: Order, watch: _Watch, ended: _Ended) -> Tally:
    rows, notes, bill = ended.rows, simulator.requests(), cast("dict[str, Any]", simulator.bill())
    answered = sum(rows.get(state, 0) for state in (RowState.OK, RowState.TRUNCATED))
    degraded = rows.get(RowState.DEGRADED, 0)
    money = ledger.reports.spent_total()
    over = sum(
        max(0, one.spent_pico + one.reserved_pico - one.cap_pico)
        for one in ledger.reports.budgets()
        if one.cap_pico
    )
    return Tally(
        rows=sum(rows.values()) - rows.get(RowState.INVALID, 0),
        answered=answered,
        degraded=degraded,
        waiting=rows.get(RowState.PENDING, 0),
        requests=max(len(notes), money.attempts),
        paid_twice=paid_twice(bill["lines"], answered + degraded + rows.get(RowState.REFUSED, 0)),
        over_pico=over + max(0, bill["total_pico"] - money.charged_pico),
        charged_pico=money.charged_pico,
        hints_ignored=hints_ignored(cast("list[dict[str, Any]]", notes), order.concurrency),
        first_s=watch.first_s,
        seconds=watch.last_s,
        stop=ended.stop,
    )


_SDKS: Final = {"openai": "openai", "anthropic": "anthropic", "gemini": "google-genai"}


_KEY: Final = "drill-no-real-key"


_BEHIND: Final = {"openai": "/v1"}


_SAMPLE_TOKENS: Final = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """The user's own word on what is rehearsed.

    Attributes:
        route: as calls go.
        players: the providers that it leads to.
        keyless: those that have no key here.
        timeouts_s: how long an answer of each is waited for.
        rows: how many rows are played.
        place: where the user says where calls go.
    """

    route: Route
    players: tuple[Player, ...]
    keyless: tuple[str, ...]
    timeouts_s: dict[str, float]
    rows: int
    place: str


def facts_of(settings: Settings, route: Route, tags: Mapping[str, str], template: str, rows: int) -> Facts:
    """What is known before anything is played.

    Args:
        settings: the user's own.
        route: where calls may go.
        tags: the calls', for the rules.
        template: the template's name, for the rules.
        rows: how many rows are played.

    Raises:
        UsageError: the rules leave no target.
    """
    ruling = settings.rules.ruling(template, tags)
    plan, _ = make_plan(route, settings.catalog, lambda _: None, ruling=ruling)
    if not plan.targets:
        raise UsageError(
            f"the rules leave no target of the route {route.name!r}", remedy="Take another --route."
        )
    providers = [settings.catalog.provider(planned.target.provider) for planned in plan.targets]
    named = {one.name: one for one in providers}
    return Facts(
        replace(route, targets=tuple(planned.target for planned in plan.targets)),
        players_of(providers),
        tuple(name for name, one in named.items() if not settings.keys.usable(one)),
        {name: one.timeout_s for name, one in named.items()},
        rows,
        f"[routes.{route.name}]" if route.name in settings.routes else "the targets",
    )


def players_of(providers: Iterable[Provider]) -> tuple[Player, ...]:
    """The providers as the simulator plays them, each once."""
    found = {one.name: Player(one.name, _family(one)) for one in providers}
    return tuple(found.values())


def scenario_for(settings: Settings, route: Route) -> Scenario:
    """A world in which every target of the user's routes is there, priced as the user's books price it."""
    routes = (*settings.routes.values(), route)
    targets = {target for one in routes for target in (*one.targets, one.last_resort) if target is not None}
    names = {target.provider for target in targets}
    return Scenario(
        prompt_cache=False,
        ports=dict.fromkeys(sorted(names), 0),
        models=tuple(_rules(settings.catalog, sorted(targets))),
    )


def rehearsal(settings: Settings, database: Path, address: Callable[[str], str]) -> Settings:
    """The user's settings, with every provider played, no real key, and books of its own.

    Args:
        settings: the user's.
        database: a file that may be thrown away.
        address: where the simulator plays a provider, without what stands behind the port.
    """
    providers = {
        name: _played(provider, address(name)) for name, provider in settings.catalog.providers.items()
    }
    return replace(
        settings,
        database=f"sqlite:///{database}",
        database_path=database,
        catalog=Catalog(providers),
        keys=Keys(dict.fromkeys(providers, _KEY)),
        warnings=(),
    )


def address_in(simulator: Simulator, ports: Iterable[str]) -> Callable[[str], str]:
    """Where a simulator plays a provider: on a port of its own, or on the one that serves all."""
    own = frozenset(ports)

    def address(name: str) -> str:
        return (
            f"http://127.0.0.1:{simulator.listener(name).port}" if name in own else f"{simulator.url}/{name}"
        )

    return address


def _played(provider: Provider, address: str) -> Provider:
    family = _family(provider)
    return replace(
        provider,
        adapter=family,
        api="chat" if provider.adapter == "local" else provider.api,
        sdk=_SDKS[family],
        base_url=address + _BEHIND.get(family, ""),
        base_url_env=None,
        api_key_env="PROMPTKIT_DRILL_KEY",
        key_allowed=True,
        key_why="",
        trusted=False,
    )


def _family(provider: Provider) -> str:
    """Whose wire format it speaks; the embedded model is played in OpenAI's."""
    return provider.adapter if provider.adapter in _SDKS else "openai"


def _rules(catalog: Catalog, targets: Iterable[Target]) -> Iterator[ModelRule]:
    """The models that the simulator doesn't know, or prices otherwise."""
    known, prices, now = Models(), Prices(), datetime.now(UTC)
    for target in targets:
        provider, model = catalog.pair(target)
        there = any(one.id == target.model for one in known.of(target.provider))
        if there and model.price is None and card_of(target.provider, target.model, now.date()) is not None:
            continue
        yield _rule(target, provider, model, prices, now)


def _rule(target: Target, provider: Provider, model: Model, prices: Prices, now: datetime) -> ModelRule:
    card = prices.card(provider, model, now)
    read, written = (
        None if card is None else _usd_mtok(card.pico(usage))
        for usage in (Usage(_SAMPLE_TOKENS, 0), Usage(0, _SAMPLE_TOKENS))
    )
    plain = ModelRule(target.provider, target.model)
    return replace(
        plain,
        context_window=model.context_window or plain.context_window,
        max_output_tokens=model.max_output_tokens or plain.max_output_tokens,
        input_usd_mtok=read,
        output_usd_mtok=written,
    )


def _usd_mtok(pico: int | None) -> Decimal | None:
    return None if pico is None else Decimal(pico) / _SAMPLE_TOKENS / 1_000_000


def sample_rows(
    template: Template, examples: Sequence[Mapping[str, object]], count: int
) -> list[dict[str, object]]:
    """So many rows that the template takes, as different as it allows.

    Args:
        template: which declares the variables.
        examples: the variables of its tests, where it has any.
        count: how many.
    """
    variables = template.spec.variables
    named = [Example("test", each) for each in examples] or [BARE]
    base = [completed(each, variables)[0] for each in named]
    return [_told_apart(base[number % len(base)], variables, number + 1) for number in range(count)]


def _told_apart(
    row: Mapping[str, object], variables: Mapping[str, Variable], number: int
) -> dict[str, object]:
    """The same row with a number in the first text that has room for it."""
    for name in (*row, *(name for name in variables if name not in row)):
        variable, value = variables[name], row.get(name, f"[{name}]")
        if isinstance(value, str) and _takes_any_text(variable):
            mark = f" {number}"
            room = None if variable.max_length is None else max(variable.max_length - len(mark), 0)
            text = f"{value[:room]}{mark}"
            if variable.max_length is None or len(text) <= variable.max_length:
                return {**row, name: text}
    return dict(row)


def _takes_any_text(variable: Variable) -> bool:
    return (
        variable.kind is Kind.STRING
        and not variable.choices
        and variable.format is None
        and variable.pattern is None
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the rows of one outage. Times are seconds as they were played.

    Attributes:
        rows: how many there were.
        answered: those that the route answered.
        degraded: those that the last resort answered.
        waiting: those that still wait for another start.
        requests: what the providers were sent, or would have been: a refused connection counts.
        paid_twice: replies that came whole and were billed, beyond one a row.
        over_pico: what was spent above a cap, or billed above what the books charge.
        charged_pico: what the books charge, attempts of unknown cost at their ceilings.
        hints_ignored: requests sent before a Retry-After had passed.
        first_s: until the first answer; None where none came.
        seconds: until the last row was done.
        stop: what stopped the job before its rows did.
    """

    rows: int
    answered: int = 0
    degraded: int = 0
    waiting: int = 0
    requests: int = 0
    paid_twice: int = 0
    over_pico: int = 0
    charged_pico: int = 0
    hints_ignored: int = 0
    first_s: float | None = None
    seconds: float = 0.0
    stop: str = ""

    @property
    def lost(self) -> int:
        """Rows without an answer."""
        return self.rows - self.answered - self.degraded

    @property
    def a_success(self) -> float | None:
        """Requests an answer; None where none came."""
        made = self.answered + self.degraded
        return self.requests / made if made else None


def paid_twice(lines: Iterable[Mapping[str, Any]], answered: int) -> int:
    """Replies that a provider billed and delivered whole, beyond those that were answers.

    Args:
        lines: of the simulator's bill.
        answered: how many rows have a reply.
    """
    return max(sum(line["billed"] and line["delivered"] for line in lines) - answered, 0)


def hints_ignored(notes: Iterable[Mapping[str, Any]], at_once: int) -> int:
    """Requests that were sent to a provider before the time that it had asked for.

    Args:
        notes: the simulator's journal, in order.
        at_once: calls under way together: so many were sent before the first of them could know.
    """
    until: dict[str, float] = {}
    excused: dict[str, int] = {}
    ignored = 0
    for note in notes:
        where, hint_s = note["provider"], note["retry_after_s"]
        at_s = datetime.fromisoformat(note["time"]).timestamp()
        if at_s < until.get(where, 0.0):
            ignored += excused[where] == 0
            excused[where] -= excused[where] > 0
        elif hint_s is not None:
            excused[where] = at_once - 1
        if hint_s is not None:
            until[where] = max(until.get(where, 0.0), at_s + hint_s)
    return ignored
