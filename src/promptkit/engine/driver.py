"""The driver: each step that a flow decides on is done, and written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from promptkit import adapters
from promptkit.config import Settings
from promptkit.ids import IdMaker
from promptkit.ledger import AttemptStart, Ledger, SoftPassed
from promptkit.pricing import Prices
from promptkit.routing.flow import Answered, Flow, GaveUp, Moment, Plan, Send, Sleep, Step, Verdict, flow
from promptkit.routing.health import Health, LaneKey
from promptkit.tokens import ceiling_input_tokens
from promptkit.types import (
    Call,
    Cost,
    Estimate,
    Failure,
    Fault,
    Outcome,
    Target,
    WireRequest,
)

from .books import Books
from .choosing import Chooser
from .entries import Making, us_of
from .judging import REPAIR
from .lanes import Lane, Lanes
from .leading import Leading
from .saying import Voice
from .serving import entries, served_by, take
from .settling import Settled, accounts_of, settle, without_secrets
from .standing import Standing
from .streaming import STOPPED, Exchange, Streaming
from .verdicts import is_outage, row_stays, status_of, text_of
from .words import Edge, Made, Work


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
        for hop in plan.hops:
            self._lanes.to(hop.target)

    def unpriced(self, plan: Plan) -> Target | None:
        """The first target of a plan that has no price; None where all have one."""
        targets = [hop.target for hop in plan.hops]
        if plan.last_resort is not None:
            targets.append(plan.last_resort)
        now = _moment_of(self._edge.clock())
        for target in targets:
            provider, model = self._settings.catalog.pair(target)
            if self._prices.card(provider, model, now) is None:
                return target
        return None

    async def make(self, work: Work) -> Made:
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

    async def serve(self, work: Work) -> Made | None:
        """Answer a call with an earlier reply, without sending it; None where there is none that will do."""
        return await self._serve(self._begin(work)) if work.cache_s else None

    def _begin(self, work: Work) -> Making:
        return Making.of(work, self._edge.clock(), self._settings.storage)

    async def _serve(self, making: Making) -> Made | None:
        """Answer a call with an earlier reply; None where there is none that will do."""
        work = making.work
        reply = served_by(self._ledger, work, making.started_s)
        made = None if reply is None else take(making, reply)
        if made is None:
            return None
        ended_s = self._edge.clock()
        start, end, row = entries(making, made, making.kept, us_of(ended_s))
        await self._ledger.end_call(end, row, start)
        if work.listen is not None:
            work.listen(made.text)
        return replace(made, latency_s=ended_s - making.started_s)

    async def _follow(self, making: Making) -> Verdict:
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

    async def _attempt(self, making: Making, send: Send) -> Settled | Failure:
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
            hop=send.hop + 1,
            number=send.number,
            target=send.target,
            ceiling_pico=ceiling,
            started_us=us_of(started_s),
        )
        refused = await self._books.hold(making, start)
        if refused is not None:
            return refused
        return await self._send(making, lane, start, call, wire)

    async def _send(
        self, making: Making, lane: Lane, start: AttemptStart, call: Call, wire: WireRequest
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
        making: Making,
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
        return self._prices.ceiling_pico(
            lane.provider,
            lane.model,
            ceiling_input_tokens(call.prompt, adapters.sent_schema(call.schema, lane.provider)),
            adapters.output_limit(call.params, lane.model),
            at,
            call.tier,
        )

    # ------------------------------------------------------------------ the edge

    def _learn(self, target: Target, settled: Settled | Failure, probed: tuple[LaneKey, ...]) -> Moment:
        outcome = settled if isinstance(settled, Failure) else settled.outcome
        self._standing.learn(target, outcome, self._edge.clock(), probed)
        return self._moment(outcome)

    def _moment(self, outcome: Outcome | None) -> Moment:
        now_s = self._edge.clock()
        return Moment(now_s, self._edge.draw(), self._standing.look(now_s), outcome)

    def _made(self, making: Making, verdict: Verdict) -> Made:
        gave_up = verdict if isinstance(verdict, GaveUp) else None
        return Made(
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


def _advance(steps: Flow, moment: Moment | None) -> tuple[Step | None, Verdict | None]:
    """Resume the flow: its next step, or its verdict."""
    try:
        return (next(steps) if moment is None else steps.send(moment)), None
    except StopIteration as end:
        return None, end.value


def _moment_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
