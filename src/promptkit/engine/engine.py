"""The driver: each step that a flow decides on is done, and written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from promptkit.config.settings import Settings
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptStart, SoftPassed
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import estimate_input_tokens, max_input_tokens
from promptkit.providers.wire_formats import sent_schema
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import Answered, Flow, GaveUp, Plan, Send, Sleep, Snapshot, Step, Verdict, flow
from promptkit.routing.health import CircuitKey, Health
from promptkit.routing.plan import STRATEGIES, Facts
from promptkit.types import Call, Cost, Estimate, Failure, Fault, Outcome, Target, Usage, WireRequest
from promptkit.types.ids import IdMaker

from .attempts import (
    STOPPED,
    ActiveCall,
    Exchange,
    Lane,
    Lanes,
    Settled,
    Streaming,
    accounts_of,
    settle,
    us_of,
    without_secrets,
)
from .cache import entries, served_by, take
from .calls import CallRequest, CallResult, Edge, is_outage, row_stays, status_of, text_of
from .judge import REPAIR
from .limits import Standing
from .recording import Books, Voice
from .warmup import Leading


class Engine:
    """Makes calls; keeps one transport a provider and the health of the targets.

    Args:
        settings: providers, keys, and what may be kept of texts and variables.
        ledger: where every attempt is written.
        prices: what a reply costs.
        edge: clock, dice and voice.
        ids: makes the ids of attempts.
    """

    def __init__(self, settings: Settings, ledger: Ledger, prices: Prices, edge: Edge, ids: IdMaker) -> None:
        self._settings = settings
        self._ledger = ledger
        self._prices = prices
        self._edge = edge
        self._voice = Voice(edge.say)
        self._books = Books(ledger, edge.clock, self._voice)
        self._ids = ids
        self._secrets = settings.keys.secrets()
        accounts = accounts_of(settings.catalog, settings.keys)
        self._standing = Standing(ledger, settings.catalog, accounts, edge.clock, by_hand=edge.by_hand)
        self._chooser = Chooser(settings.catalog, ledger, prices, edge)
        self._lanes = Lanes(settings)
        self._leading = Leading(settings.catalog, edge.clock)

    @property
    def health(self) -> Health:
        """Which targets are parked, as this process knows it."""
        return self._standing.health

    @property
    def soft_passed(self) -> Mapping[str, SoftPassed]:
        """The scopes whose soft cap was found passed, with what was spent at the last look."""
        return self._books.soft

    async def aclose(self) -> None:
        """Close every transport."""
        await self._lanes.aclose()

    def open(self, plan: Plan) -> None:
        """Open what its targets need: an SDK's import would else count in the times of calls under way.

        Raises:
            ConfigError: a target can't be asked here.
        """
        for planned in plan.targets:
            self._lanes.to(planned.target)

    def unpriced(self, plan: Plan) -> Target | None:
        """The first target of a plan that has no price; None where all have one."""
        targets = [planned.target for planned in plan.targets]
        if plan.last_resort is not None:
            targets.append(plan.last_resort)
        now = _moment_of(self._edge.clock())
        for target in targets:
            provider, model = self._settings.catalog.pair(target)
            if self._prices.card(provider, model, now) is None:
                return target
        return None

    async def make(self, work: CallRequest) -> CallResult:
        """Make a call: every attempt that it takes, each in the books before it leaves.

        Raises:
            LedgerError: the ledger can't be written; nothing more is sent.
        """
        making = self._begin(work)
        if work.cache_s and (served := await self._serve(making)) is not None:
            return served
        try:
            verdict = await self._follow(making)
        except asyncio.CancelledError:
            await self._books.abandon(making)
            raise
        if not making.closed:
            await self._books.end_unsent(making, verdict)
        return self._made(making, verdict)

    async def serve(self, work: CallRequest) -> CallResult | None:
        """Answer a call with an earlier reply, without sending it; None where there is none that will do."""
        return await self._serve(self._begin(work)) if work.cache_s else None

    def _begin(self, work: CallRequest) -> ActiveCall:
        return ActiveCall.of(work, self._edge.clock(), self._settings.storage)

    async def _serve(self, making: ActiveCall) -> CallResult | None:
        """Answer a call with an earlier reply; None where there is none that will do."""
        work = making.work
        reply = served_by(self._ledger, work, making.started_s)
        made = None if reply is None else take(making, reply)
        if made is None:
            return None
        ended_s = self._edge.clock()
        start, end, row = entries(making, made, making.kept, us_of(ended_s))
        await self._ledger.calls.end(end, row, start)
        if work.listen is not None:
            work.listen(made.text)
        return replace(made, latency_s=ended_s - making.started_s)

    async def _follow(self, making: ActiveCall) -> Verdict:
        """Do what the flow decides, step by step."""
        plan = self._chooser.plan(making.work)
        if not making.hearing.repairs_checks:
            plan = replace(plan, repair_checks=False)
        steps = flow(plan, self._moment(None))
        step, verdict = _advance(steps, None)
        while verdict is None:
            if isinstance(step, Send):
                outcome: Outcome | None = None
                place = await self._leading.enter(step.target, making.work)
                try:
                    entry = await self._standing.enter(step.target, making.hearing.call_to(step.target))
                    if entry is None:
                        step, verdict = _advance(steps, self._moment(None))
                        continue
                    outcome = _LOST
                    try:
                        settled = await self._attempt(making, step)
                        outcome = settled.outcome if isinstance(settled, Settled) else None
                    finally:
                        self._standing.leave(entry, outcome)
                finally:
                    self._leading.leave(place, outcome)
                step, verdict = _advance(steps, self._learn(step.target, settled, entry.probed))
                if isinstance(settled, Settled):
                    await self._books.close(making, settled, verdict)
            elif isinstance(step, Sleep):
                await self._standing.sleep(step.seconds)
                step, verdict = _advance(steps, self._moment(None))
        return verdict

    # ------------------------------------------------------------------ one attempt

    async def _attempt(self, making: ActiveCall, send: Send) -> Settled | Failure:
        """Hold, send, read, price. A Failure alone means that nothing was sent."""
        work, lane = making.work, self._lanes.to(send.target)
        call = making.hearing.call_to(send.target)
        wire = lane.adapter.encode(call, lane.provider, lane.model)
        if isinstance(wire, Failure):
            return wire
        for warning in wire.warnings:
            self._voice.once((send.target, warning), f"{send.target}: {warning}")
        started_s = self._edge.clock()
        ceiling = self._ceiling(call, lane, _moment_of(started_s))
        if ceiling is None and work.scopes and not self._settings.allow_unpriced:
            return Failure(Fault.UNPRICED, f"{send.target} has no price, and a budget is in force")
        start = AttemptStart(
            id=self._ids(),
            call_id=work.id,
            target_number=send.target_number + 1,
            number=send.number,
            target=send.target,
            max_cost_pico=ceiling,
            started_us=us_of(started_s),
        )
        refused = await self._books.hold(making, start)
        if refused is not None:
            return refused
        return await self._send(making, lane, start, call, wire)

    async def _send(
        self, making: ActiveCall, lane: Lane, start: AttemptStart, call: Call, wire: WireRequest
    ) -> Settled:
        """Send what is in the books, and settle what comes of it."""
        listen, heard = making.work.listen, partial(self._standing.heard, start.target)
        exchange = Exchange(lane, wire, heard) if listen is None else Streaming(lane, wire, heard, listen)
        try:
            outcome = await exchange.take()
        except asyncio.CancelledError:
            lost = exchange.given_up()
            settled = self._settle(making, lane, start, call, lost, exchange)
            # The caller goes; what was sent must not go with it.
            await asyncio.shield(self._books.close(making, settled, GaveUp(lost, lost.detail), stopped=True))
            raise
        return self._settle(making, lane, start, call, outcome, exchange)

    def _settle(
        self,
        making: ActiveCall,
        lane: Lane,
        start: AttemptStart,
        call: Call,
        outcome: Outcome,
        exchange: Exchange,
    ) -> Settled:
        hearing = making.hearing
        note = REPAIR if hearing.is_repair(start.target) else ""
        outcome = hearing.hear(start.target, outcome)
        at, estimate = _moment_of(start.started_us / 1e6), None
        cost = self._cost(lane, outcome, at)
        if isinstance(outcome, Failure):
            outcome = without_secrets(outcome, self._secrets)
            self._voice.failed(start.target, outcome)
            if cost is None and outcome.usage is None:
                estimate = self._estimate(lane, replace(outcome, usage=exchange.usage_so_far(call)), at)
        return settle(
            start,
            outcome,
            cost,
            exchange.elapsed_s,
            us_of(self._edge.clock()),
            first_byte_s=exchange.first_byte_s,
            estimate=estimate,
            note=note,
        )

    def _estimate(self, lane: Lane, lost: Failure, at: datetime) -> Estimate | None:
        """About what it cost, by what arrived; None where nothing began to."""
        cost = self._cost(lane, lost, at)
        return None if lost.usage is None else Estimate(lost.usage, None if cost is None else cost.pico)

    def _cost(self, lane: Lane, outcome: Outcome, at: datetime) -> Cost | None:
        if isinstance(outcome, Failure) and not outcome.billed:
            return Cost(0, "not billed")
        return self._prices.cost(
            lane.provider, lane.model, outcome.usage, outcome.served_model, outcome.tier, at
        )

    def _ceiling(self, call: Call, lane: Lane, at: datetime) -> int | None:
        """The most that the attempt can cost: by the sizes that will be sent, at the price of `at`."""
        return self._prices.max_cost_pico(
            lane.provider,
            lane.model,
            max_input_tokens(call.prompt, sent_schema(call.schema, lane.provider)),
            output_limit(call.params, lane.model),
            at,
            call.tier,
        )

    # ------------------------------------------------------------------ the edge

    def _learn(self, target: Target, settled: Settled | Failure, probed: tuple[CircuitKey, ...]) -> Snapshot:
        outcome = settled if isinstance(settled, Failure) else settled.outcome
        self._standing.learn(target, outcome, self._edge.clock(), probed)
        return self._moment(outcome)

    def _moment(self, outcome: Outcome | None) -> Snapshot:
        now_s = self._edge.clock()
        return Snapshot(now_s, self._edge.draw(), self._standing.look(now_s), outcome)

    def _made(self, making: ActiveCall, verdict: Verdict) -> CallResult:
        gave_up = verdict if isinstance(verdict, GaveUp) else None
        return CallResult(
            id=making.work.id,
            status=status_of(verdict),
            text=text_of(verdict),
            answered=verdict if isinstance(verdict, Answered) else None,
            failure=gave_up.failure if gave_up else None,
            why=gave_up.why if gave_up else "",
            retry_at_s=gave_up.retry_at_s if gave_up else None,
            attempts=tuple(making.attempts),
            latency_s=self._edge.clock() - making.started_s,
            row_stays=row_stays(verdict, making.attempts, making.work.plan),
            outage=is_outage(verdict, making.attempts, making.work.plan),
            refused_by=making.refused_by,
            parsed=None if gave_up else making.hearing.value,
            flags=() if gave_up else making.hearing.flags,
            members=tuple(self._made(one, one.verdict) for one in making.members if one.verdict is not None),
            ask_again=making.ask_again,
        )


_LOST: Final = Failure(Fault.UNKNOWN_OUTCOME, STOPPED, billed=True)


def _advance(steps: Flow, moment: Snapshot | None) -> tuple[Step | None, Verdict | None]:
    """Resume the flow: its next step, or its verdict."""
    try:
        return (next(steps) if moment is None else steps.send(moment)), None
    except StopIteration as end:
        return None, end.value


def _moment_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


LATENCY_KNOWN_S: Final = 900.0
"""How long an answer's latency is held to be a target's; after that it is unknown again."""


_LATENCY_FRESH_S: Final = 5.0


_HABIT_FRESH_S: Final = 30.0


_HABITS: Final = 256


@dataclass(frozen=True, slots=True)
class _Habit:
    """What the prompts and answers of one template are like.

    `of_ceiling` is how many input tokens there are to one of the ceiling's; `output_tokens` is
    the mean answer by target, and under None over all of them.
    """

    read_s: float
    of_ceiling: float
    output_tokens: Mapping[Target | None, float]

    def output(self, target: Target, limit: int) -> int:
        """How long an answer to expect: as this target's were, else as all were, else the limit."""
        mean = self.output_tokens.get(target, self.output_tokens.get(None, limit))
        return min(round(mean), limit)


class Chooser:
    """Puts the targets of each call in the order of its route's strategy.

    Args:
        catalog: providers and models.
        ledger: what answers took and how long they were lately, asked every few seconds.
        prices: what a prompt would cost.
        edge: clock and dice.
    """

    def __init__(self, catalog: Catalog, ledger: Ledger, prices: Prices, edge: Edge) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._prices = prices
        self._edge = edge
        self._latency: dict[Target, tuple[float, float]] = {}
        self._latency_read_s = 0.0
        self._habits: dict[str, _Habit] = {}
        self._gather: Mapping[str, Callable[[CallRequest], Facts]] = {
            "cheapest": self._costs,
            "fastest": self._latencies,
            "weighted": self._dice,
        }

    def plan(self, work: CallRequest) -> Plan:
        """The plan of a call, its hops in the order in which they are to be tried."""
        plan = work.plan
        gather = self._gather.get(plan.strategy)
        if gather is None or len(plan.targets) < 2:  # noqa: PLR2004 - one alone is in order
            return plan
        targets = STRATEGIES[plan.strategy](plan.targets, gather(work))
        return plan if targets == plan.targets else replace(plan, targets=targets)

    def _dice(self, work: CallRequest) -> Facts:
        del work
        return Facts(self._edge.draw())

    # --------------------------------------------------------------------- latency

    def _latencies(self, work: CallRequest) -> Facts:
        del work
        now_s = self._edge.clock()
        if not 0 <= now_s - self._latency_read_s < _LATENCY_FRESH_S:
            self._read_latencies(now_s)
        return Facts(self._edge.draw(), latency_s={target: one for target, (one, _) in self._latency.items()})

    def _read_latencies(self, now_s: float) -> None:
        """Ask the ledger; one that a busy night pushed out of its latest attempts is remembered for a while."""
        self._latency_read_s = now_s
        found = self._ledger.reports.latencies(int((now_s - LATENCY_KNOWN_S) * 1e6))
        kept = {
            target: known
            for target, known in self._latency.items()
            if 0 <= now_s - known[1] < LATENCY_KNOWN_S
        }
        self._latency = kept | {target: (latency_s, now_s) for target, latency_s in found.items()}

    # ------------------------------------------------------------------------ cost

    def _costs(self, work: CallRequest) -> Facts:
        call = work.call
        now_s = self._edge.clock()
        ceiling = max_input_tokens(call.prompt, call.schema)
        habit = self._habit(call, ceiling, now_s)
        input_tokens = round(ceiling * habit.of_ceiling)
        at = datetime.fromtimestamp(now_s, UTC)
        costs: dict[Target, int] = {}
        for planned in work.plan.targets:
            provider, model = self._catalog.pair(planned.target)
            limit = output_limit(call.params, model)
            answer = habit.output(planned.target, limit) * max(1, len(work.members))
            usage = Usage(input_tokens, min(answer, limit))
            card = self._prices.card(provider, model, at)
            pico = None if card is None else card.pico(usage, call.tier)
            if pico is not None:
                costs[planned.target] = pico
        return Facts(cost_pico=costs)

    def _habit(self, call: Call, ceiling: int, now_s: float) -> _Habit:
        """Of the call's template. Counting a prompt's tokens costs 0.2 ms: one stands for all."""
        digest = call.prompt.template_digest
        habit = self._habits.get(digest)
        if habit is None or not 0 <= now_s - habit.read_s < _HABIT_FRESH_S:
            if len(self._habits) >= _HABITS:
                self._habits.clear()
            estimate = estimate_input_tokens(call.prompt, call.schema)
            habit = _Habit(now_s, estimate / ceiling, self._ledger.reports.output_tokens(digest))
            self._habits[digest] = habit
        return habit
