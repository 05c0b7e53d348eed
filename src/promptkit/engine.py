"""The one driver of a flow: it brings the ledger, the network, the clock and the dice together.

For each step that the flow decides on, an attempt and its hold are committed, the request is
sent, the reply read and priced, and the attempt closed together with its settlement.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

from . import adapters
from .adapters import Adapter
from .config import Keep, Settings
from .ids import IdMaker, show_id
from .ledger import (
    Admitted,
    AttemptEnd,
    AttemptStart,
    CallEnd,
    CallStart,
    Ledger,
    Refused,
    RowEnd,
    Scope,
)
from .pricing import Prices
from .routing.flow import Answered, Flow, GaveUp, Moment, Plan, Send, Sleep, Step, Verdict, flow
from .routing.health import Health
from .tokens import ceiling_input_tokens
from .transport import Transport, open_transport
from .types import (
    Attempt,
    AttemptState,
    Call,
    Completion,
    Cost,
    Failure,
    Fault,
    Finish,
    Json,
    Model,
    Outcome,
    Provider,
    Status,
    Target,
    Value,
    WireBreak,
)

_NOT_THE_ROWS: Final = frozenset({Fault.BUDGET, Fault.UNPRICED, Fault.AUTH, Fault.QUOTA, Fault.MODEL_GONE})
"""Faults that would have hit any other row as well: the row is not done, it waits."""

_HOLD_POLL_S: Final = 0.25
"""How often a call that waits for room under a cap looks again: another process may have freed it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What comes in from the world: seconds since the epoch, a draw in [0, 1), and a voice."""

    clock: Callable[[], float]
    draw: Callable[[], float]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One call to make: what to ask, where it may go, and what the books say of it.

    `scopes` are the hard caps it counts against; `variables` are as supplied and coerced.
    """

    id: int
    call: Call
    plan: Plan
    route: str
    scopes: tuple[Scope, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, Value] = field(default_factory=dict[str, Value])
    parent_id: int | None = None
    deliverable: str | None = None
    job_id: int | None = None
    row_id: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a call. `text` and `answered` are set where a reply came, `failure` where none did."""

    id: int
    status: Status
    text: str
    answered: Answered | None
    failure: Failure | None
    why: str
    retry_at_s: float | None
    attempts: tuple[Attempt, ...]
    latency_s: float
    parsed: Json = None

    @property
    def row_stays(self) -> bool:
        """Whether a row of this call is still to be done: it was not the row that failed."""
        return self.answered is None and _row_stays(self.failure)


@dataclass(frozen=True, slots=True)
class _Lane:
    """What it takes to ask one target."""

    provider: Provider
    model: Model
    adapter: Adapter
    transport: Transport


@dataclass(frozen=True, slots=True)
class _Settled:
    """An attempt that has ended, before it is written."""

    attempt: Attempt
    outcome: Outcome
    end: AttemptEnd


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
        self._ids = ids
        self._health = Health()
        self._lanes: dict[Target, _Lane] = {}
        self._transports: dict[str, Transport] = {}
        self._said: set[str] = set()

    @property
    def health(self) -> Health:
        """Which targets are parked, as this process knows it."""
        return self._health

    async def aclose(self) -> None:
        """Close every transport."""
        transports, self._transports = self._transports, {}
        self._lanes.clear()
        await asyncio.gather(*(transport.aclose() for transport in transports.values()))

    def say_once(self, text: str) -> None:
        """Tell the user something, but not twice."""
        if text not in self._said:
            self._said.add(text)
            self._edge.say(text)

    def unpriced(self, plan: Plan) -> Target | None:
        """The first target of a plan that has no price; None where all have one."""
        targets = [hop.target for hop in plan.hops]
        if plan.last_resort is not None:
            targets.append(plan.last_resort)
        now = self._now()
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
        making = _Making(work.id, self._edge.clock())
        steps = flow(work.plan, self._moment(None))
        step, verdict = _advance(steps, None)
        while verdict is None:
            if isinstance(step, Send):
                settled = await self._attempt(work, making, step)
                step, verdict = _advance(steps, self._learn(step.target, settled))
                await self._close(work, making, settled, verdict)
            elif isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                step, verdict = _advance(steps, self._moment(None))
        if not making.closed:
            await self._end_unsent(work, making, verdict)
        return self._made(work, making, verdict)

    # ------------------------------------------------------------------ one attempt

    async def _attempt(self, work: Work, making: _Making, send: Send) -> _Settled | Failure:
        """Hold, send, read, price. A Failure alone means that nothing was sent."""
        lane = self._lane(send.target)
        wire = lane.adapter.encode(work.call, lane.provider, lane.model)
        if isinstance(wire, Failure):
            return wire
        for warning in wire.warnings:
            self.say_once(f"{send.target}: {warning}")
        ceiling = self._ceiling(work, lane)
        if ceiling is None and work.scopes and not self._settings.allow_unpriced:
            return Failure(Fault.UNPRICED, f"{send.target} has no price, and a budget is in force")
        start = AttemptStart(
            id=self._ids(),
            call_id=making.id,
            hop=send.hop,
            number=send.number,
            target=send.target,
            ceiling_pico=ceiling,
            started_us=_us(self._edge.clock()),
        )
        refused = await self._hold(work, making, start)
        if refused is not None:
            return refused
        began = perf_counter()
        try:
            reply = await lane.transport.send(wire, lane.provider.timeout_s)
        except asyncio.CancelledError:
            lost = Failure(Fault.UNKNOWN_OUTCOME, "stopped while waiting for the reply", billed=True)
            settled = self._settle(lane, start, lost, perf_counter() - began)
            await asyncio.shield(self._close(work, making, settled, GaveUp(lost, lost.detail)))
            raise
        latency_s = perf_counter() - began
        broken = isinstance(reply, WireBreak)
        outcome = adapters.from_break(reply) if broken else lane.adapter.decode(reply)
        return self._settle(lane, start, outcome, latency_s)

    async def _hold(self, work: Work, making: _Making, start: AttemptStart) -> Failure | None:
        """Commit the attempt and its hold, waiting for room that other holds may free."""
        call = None if making.begun else self._call_start(work, making)
        while True:
            admission = await self._ledger.begin(start, work.scopes, call)
            if isinstance(admission, Admitted):
                making.begun = True
                return None
            if not admission.may_free:
                return Failure(Fault.BUDGET, _refusal(admission, start.ceiling_pico or 0))
            await self._ledger.freed(_HOLD_POLL_S, admission.releases)

    def _settle(self, lane: _Lane, start: AttemptStart, outcome: Outcome, latency_s: float) -> _Settled:
        """Price an outcome."""
        cost = self._cost(lane, outcome)
        charged = (start.ceiling_pico or 0) if cost is None else cost.pico
        state = _state(outcome)
        failed = isinstance(outcome, Failure)
        fault = outcome.fault if failed else None
        detail = outcome.detail if failed else ""
        attempt = Attempt(
            id=start.id,
            target=start.target,
            state=state,
            fault=fault,
            detail=detail,
            usage=outcome.usage,
            cost=cost,
            charged_pico=charged,
            latency_s=latency_s,
            request_id=outcome.request_id,
            served_model=outcome.served_model,
        )
        end = AttemptEnd(
            id=start.id,
            state=state,
            fault=fault,
            detail=detail,
            usage=outcome.usage,
            cost=cost,
            charged_pico=charged,
            served_model=outcome.served_model,
            tier=outcome.tier,
            request_id=outcome.request_id,
            latency_us=int(latency_s * 1e6),
            ended_us=_us(self._edge.clock()),
        )
        return _Settled(attempt, outcome, end)

    def _cost(self, lane: _Lane, outcome: Outcome) -> Cost | None:
        if isinstance(outcome, Failure) and not outcome.billed:
            return Cost(0, "not billed")
        return self._prices.cost(
            lane.provider, lane.model, outcome.usage, outcome.served_model, outcome.tier, self._now()
        )

    def _ceiling(self, work: Work, lane: _Lane) -> int | None:
        limit = work.call.params.max_output_tokens or 0
        return self._prices.ceiling_pico(
            lane.provider,
            lane.model,
            ceiling_input_tokens(work.call.prompt),
            limit,
            self._now(),
            work.call.tier,
        )

    # ------------------------------------------------------------------ the books

    def _call_start(self, work: Work, making: _Making) -> CallStart:
        prompt = work.call.prompt
        return CallStart(
            id=making.id,
            template_digest=prompt.template_digest,
            template_ref=str(prompt.ref),
            prompt_digest=prompt.digest,
            variables=work.variables if self._settings.storage.of(work.tags).variables is Keep.FULL else None,
            tags=work.tags,
            parent_id=work.parent_id,
            deliverable=work.deliverable,
            job_id=work.job_id,
            row_id=work.row_id,
            route=work.route,
            started_us=_us(making.started_s),
        )

    async def _close(
        self, work: Work, making: _Making, settled: _Settled | Failure, verdict: Verdict | None
    ) -> None:
        """Close an attempt with its settlement, and the call and its row with the last one."""
        if isinstance(settled, Failure):
            return
        making.attempts.append(settled.attempt)
        call = row = None
        if verdict is not None:
            making.closed = True
            call, row = self._ends(work, making, verdict)
        closed = await self._ledger.finish(settled.end, call, row)
        if closed.overrun:
            self._edge.say(
                f"{settled.attempt.target} billed more than the ceiling of attempt {show_id(settled.attempt.id)}: "
                f"nothing more starts under {', '.join(closed.overrun)} until the cap is raised"
            )

    async def _end_unsent(self, work: Work, making: _Making, verdict: Verdict) -> None:
        """End a call whose last step sent nothing."""
        call, row = self._ends(work, making, verdict)
        start = None if making.begun else self._call_start(work, making)
        await self._ledger.end_call(call, row, start)

    def _ends(self, work: Work, making: _Making, verdict: Verdict) -> tuple[CallEnd, RowEnd | None]:
        status, text = _status(verdict), _text(verdict)
        ended_us = _us(self._edge.clock())
        keep = self._settings.storage.of(work.tags).replies
        gave_up = verdict if isinstance(verdict, GaveUp) else None
        end = CallEnd(
            id=making.id,
            status=status,
            ended_us=ended_us,
            error=gave_up.why if gave_up else None,
            text=text if keep is Keep.FULL else None,
            text_sha256=None if keep is Keep.NONE else hashlib.sha256(text.encode()).hexdigest(),
            finish=None if isinstance(verdict, GaveUp) else verdict.completion.finish,
        )
        if work.row_id is None or (gave_up and _row_stays(gave_up.failure)):
            return end, None
        return end, RowEnd(work.row_id, status, ended_us, making.id, end.error)

    # ------------------------------------------------------------------ the edge

    def _lane(self, target: Target) -> _Lane:
        lane = self._lanes.get(target)
        if lane is None:
            provider, model = self._settings.catalog.pair(target)
            transport = self._transports.get(provider.name)
            if transport is None:
                transport = open_transport(provider, self._settings.keys.get(provider))
                self._transports[provider.name] = transport
            lane = _Lane(provider, model, adapters.for_provider(provider), transport)
            self._lanes[target] = lane
        return lane

    def _learn(self, target: Target, settled: _Settled | Failure) -> Moment:
        outcome = settled if isinstance(settled, Failure) else settled.outcome
        self._health = self._health.after(target, outcome, self._edge.clock())
        return self._moment(outcome)

    def _moment(self, outcome: Outcome | None) -> Moment:
        return Moment(self._edge.clock(), self._edge.draw(), self._health, outcome)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._edge.clock(), UTC)

    def _made(self, work: Work, making: _Making, verdict: Verdict) -> Made:
        answered = verdict if isinstance(verdict, Answered) else None
        gave_up = verdict if isinstance(verdict, GaveUp) else None
        return Made(
            id=making.id,
            status=_status(verdict),
            text=_text(verdict),
            answered=answered,
            failure=gave_up.failure if gave_up else None,
            why=gave_up.why if gave_up else "",
            retry_at_s=gave_up.retry_at_s if gave_up else None,
            attempts=tuple(making.attempts),
            latency_s=self._edge.clock() - making.started_s,
            parsed=None if work.call.schema is None else _parsed(_text(verdict)),
        )


@dataclass(slots=True)
class _Making:
    """A call under way."""

    id: int
    started_s: float
    begun: bool = False
    """The call stands in the ledger."""
    closed: bool = False
    """Its end does, too."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])


def _advance(steps: Flow, moment: Moment | None) -> tuple[Step | None, Verdict | None]:
    """Resume the flow: its next step, or its verdict."""
    try:
        return (next(steps) if moment is None else steps.send(moment)), None
    except StopIteration as end:
        return None, end.value


def _state(outcome: Outcome) -> AttemptState:
    if isinstance(outcome, Completion):
        return AttemptState.OK if outcome.finish is Finish.STOP else AttemptState.TRUNCATED
    return AttemptState.UNKNOWN if outcome.fault is Fault.UNKNOWN_OUTCOME else AttemptState.FAILED


def _status(verdict: Verdict) -> Status:
    if isinstance(verdict, GaveUp):
        refused = verdict.failure is not None and verdict.failure.fault is Fault.CONTENT
        return Status.REFUSED if refused else Status.FAILED
    if verdict.degraded:
        return Status.DEGRADED
    return Status.OK if verdict.completion.finish is Finish.STOP else Status.TRUNCATED


def _text(verdict: Verdict) -> str:
    return verdict.completion.text if isinstance(verdict, Answered) else ""


def _row_stays(failure: Failure | None) -> bool:
    """Whether a failure says nothing about the row: no room, no key, no target left to ask."""
    return failure is None or failure.fault in _NOT_THE_ROWS


def _parsed(text: str) -> Json:
    """The value of a structured reply; None where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _refusal(refused: Refused, ceiling_pico: int) -> str:
    return (
        f"the cap {refused.scope_key} leaves no room: this call can cost up to {_dollars(ceiling_pico)}, "
        f"{_dollars(refused.spent_pico)} of {_dollars(refused.cap_pico)} are spent"
    )


def _dollars(pico: int) -> str:
    return f"${pico / 1e12:.6f}"


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
