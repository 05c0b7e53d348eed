"""The engine: it carries out the steps that a call's flow decides on, each recorded before and after."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from promptkit.config.settings import Settings
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptStart, SoftPassed
from promptkit.providers.prices import Prices
from promptkit.routing.flow import Flow, GaveUp, Plan, Replied, RouteResult, Send, Sleep, Snapshot, Step, flow
from promptkit.routing.health import Health
from promptkit.types import Estimate, Failure, Fault, Outcome, Target
from promptkit.types.ids import IdMaker

from .attempts import (
    CANCELLED,
    EndedAttempt,
    Exchange,
    StreamingExchange,
    end_attempt,
    us_of,
    without_secrets,
)
from .cache import cache_hit, cached_result
from .calls import CallRequest, CallResult, is_outage, row_stays, status_of, text_of
from .endpoints import Endpoint, Endpoints, accounts_of
from .limits import Slot, TargetLimits
from .recording import ActiveCall, Recorder, warn_of_failure
from .target_order import TargetOrder
from .validate import REPAIR
from .warmup import Warmup

_RANDOM = random.Random()  # noqa: S311 - spreads load; no secret


class Engine:
    """Makes calls, with one transport per provider and one state of the targets' limits.

    Args:
        settings: providers, keys, and what the ledger may keep of texts and variables.
        ledger: where every attempt is written.
        ids: makes the ids of attempts.
        log: gets notices and warnings.
        clock: seconds since the epoch.
        ignore_temporary: send calls to targets with an open throttle or health circuit, too.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        ids: IdMaker,
        log: logging.Logger,
        clock: Callable[[], float],
        ignore_temporary: bool = False,
    ) -> None:
        prices, catalog = Prices(), settings.catalog
        accounts = accounts_of(catalog, settings.keys)
        self._settings = settings
        self._ledger = ledger
        self._ids = ids
        self._log = log
        self._clock = clock
        self._draw = _RANDOM.random
        self._endpoints = Endpoints(settings, prices)
        self._order = TargetOrder(catalog, ledger, prices, clock, self._draw)
        self._limits = TargetLimits(ledger, catalog, accounts, clock, ignore_temporary=ignore_temporary)
        self._warmup = Warmup(catalog, clock)
        self._recorder = Recorder(ledger, clock, log)

    async def make(self, request: CallRequest) -> CallResult:
        """Make a call: every attempt that it takes, each in the ledger before it is sent.

        Raises:
            LedgerError: the ledger can't be written; nothing more is sent.
        """
        call = self._begin(request)
        if request.cache_s and (hit := await self._from_cache(call)) is not None:
            return hit
        try:
            result = await self._run(call)
        except asyncio.CancelledError:
            await self._recorder.cancel(call)
            raise
        if not call.ended:
            await self._recorder.end_unsent(call, result)
        return self._result(call, result)

    async def cached(self, request: CallRequest) -> CallResult | None:
        """Answer a call from the reply cache; None where it has no reply that fits."""
        return await self._from_cache(self._begin(request)) if request.cache_s else None

    def _begin(self, request: CallRequest) -> ActiveCall:
        return ActiveCall.begin(request, self._clock(), self._settings.storage)

    async def _from_cache(self, call: ActiveCall) -> CallResult | None:
        result = cached_result(self._ledger, call)
        if result is None:
            return None
        ended_s = self._clock()
        start, end, row = cache_hit(call, result, us_of(ended_s))
        await self._ledger.calls.end(end, row, start)
        if call.request.listen is not None:
            call.request.listen(result.text)
        return replace(result, latency_s=ended_s - call.started_s)

    async def _run(self, call: ActiveCall) -> RouteResult:
        """Carry out the steps of the call's flow until it reaches a result."""
        plan = self._order.plan(call.request)
        if not call.validator.repairs_checks:
            plan = replace(plan, repair_checks=False)
        steps = flow(plan, self._snapshot())
        step, result = _advance(steps, None)
        while result is None:
            if isinstance(step, Send):
                step, result = await self._carry_out(call, step, steps)
            elif isinstance(step, Sleep):
                await self._limits.sleep(step.seconds)
                step, result = _advance(steps, self._snapshot())
        return result

    async def _carry_out(
        self, call: ActiveCall, step: Send, steps: Flow
    ) -> tuple[Step | None, RouteResult | None]:
        """Make one attempt as soon as the limits allow it, and resume the flow with its outcome."""
        target = step.target
        async with (
            self._warmup.slot(target, call.request) as warmup,
            self._limits.slot(target, call.validator.call_to(target)) as slot,
        ):
            if slot is None:  # the target became unavailable while the call waited: nothing was sent
                return _advance(steps, self._snapshot())
            warmup.outcome = slot.outcome = CANCELLED  # unless the attempt ends, below
            attempt = await self._attempt(call, step, slot)
            sent = isinstance(attempt, EndedAttempt)
            warmup.outcome = slot.outcome = attempt.outcome if sent else None
        outcome = attempt.outcome if sent else attempt
        self._limits.learn(target, outcome, self._clock(), slot.probed)
        next_step, result = _advance(steps, self._snapshot(outcome))
        if sent:
            # After the flow: the last attempt, its call and its row go into one commit.
            await self._recorder.close(call, attempt, result)
        return next_step, result

    async def _attempt(self, call: ActiveCall, step: Send, slot: Slot) -> EndedAttempt | Failure:
        """Reserve, send, read and price one request. A Failure alone means that nothing was sent."""
        request, endpoint = call.request, self._endpoints.get(step.target)
        prompt = call.validator.call_to(step.target)
        wire = endpoint.encode(prompt)
        if isinstance(wire, Failure):
            return wire
        for warning in wire.warnings:
            self._log.info("%s: %s", step.target, warning, extra={"once": (step.target, warning)})
        started_s = self._clock()
        max_cost_pico = endpoint.max_cost_pico(prompt, _datetime(started_s))
        if max_cost_pico is None and request.scopes and not self._settings.allow_unpriced:
            return Failure(Fault.UNPRICED, unpriced_text(step.target))
        start = AttemptStart(
            id=self._ids(),
            call_id=request.id,
            target_number=step.target_number + 1,
            number=step.number,
            target=step.target,
            max_cost_pico=max_cost_pico,
            started_us=us_of(started_s),
        )
        refusal = await self._recorder.reserve(call, start)
        if refusal is not None:
            return refusal
        exchange = (
            Exchange(endpoint, prompt, wire, slot.on_headers)
            if request.listen is None
            else StreamingExchange(endpoint, prompt, wire, slot.on_headers, request.listen)
        )
        return await self._send(call, start, exchange)

    async def _send(self, call: ActiveCall, start: AttemptStart, exchange: Exchange) -> EndedAttempt:
        """Send a request that is in the ledger, and price what comes of it."""
        try:
            outcome = await exchange.send()
        except asyncio.CancelledError:
            failure = exchange.cancelled()
            ended = self._end(call, start, exchange, failure)
            result = GaveUp(failure, failure.detail)
            # The caller is gone; the record of what was sent is written all the same.
            await asyncio.shield(self._recorder.close(call, ended, result, cancelled=True))
            raise
        return self._end(call, start, exchange, outcome)

    def _end(
        self, call: ActiveCall, start: AttemptStart, exchange: Exchange, outcome: Outcome
    ) -> EndedAttempt:
        """Validate and price what came of a request."""
        endpoint = exchange.endpoint
        note = REPAIR if call.validator.is_repair(start.target) else ""
        outcome = call.validator.validate(start.target, outcome)
        at, estimate = _datetime(start.started_us / 1e6), None
        cost = endpoint.cost(outcome, at)
        if isinstance(outcome, Failure):
            outcome = without_secrets(outcome, self._settings.keys.secrets())
            warn_of_failure(self._log, start.target, outcome)
            if cost is None and outcome.usage is None:
                estimate = _estimate(endpoint, replace(outcome, usage=exchange.usage_so_far()), at)
        attempt = end_attempt(
            start,
            outcome,
            cost,
            exchange.elapsed_s,
            first_byte_s=exchange.first_byte_s,
            estimate=estimate,
            note=note,
        )
        return EndedAttempt(attempt, outcome, us_of(self._clock()))

    def _snapshot(self, outcome: Outcome | None = None) -> Snapshot:
        now_s = self._clock()
        return Snapshot(now_s, self._draw(), self._limits.refresh(now_s), outcome)

    def _result(self, call: ActiveCall, result: RouteResult) -> CallResult:
        gave_up = result if isinstance(result, GaveUp) else None
        plan = call.request.plan
        return CallResult(
            id=call.request.id,
            status=status_of(result),
            text=text_of(result),
            replied=result if isinstance(result, Replied) else None,
            failure=gave_up.failure if gave_up else None,
            why=gave_up.why if gave_up else "",
            retry_at_s=gave_up.retry_at_s if gave_up else None,
            attempts=tuple(call.attempts),
            latency_s=self._clock() - call.started_s,
            row_stays=row_stays(result, call.attempts, plan),
            outage=is_outage(result, call.attempts, plan),
            refused_by=call.refused_by,
            parsed=None if gave_up else call.validator.value,
            flags=() if gave_up else call.validator.flags,
            members=tuple(
                self._result(member, member.result) for member in call.members if member.result is not None
            ),
            resend=call.resend,
        )

    @property
    def health(self) -> Health:
        """Return the circuits of all targets, as this process knows them."""
        return self._limits.health

    @property
    def soft_passed(self) -> Mapping[str, SoftPassed]:
        """Return the scopes that reached their soft cap, with what was spent at the last check."""
        return self._recorder.soft

    def open(self, plan: Plan) -> None:
        """Open the endpoints of a plan now, so that the import of an SDK adds to no call's latency.

        Raises:
            ConfigError: a target can't be asked here.
        """
        for planned in plan.targets:
            self._endpoints.get(planned.target)

    def unpriced(self, plan: Plan) -> Target | None:
        """Return the first target of a plan that has no price; None where all have one."""
        return self._endpoints.unpriced(plan, _datetime(self._clock()))

    async def aclose(self) -> None:
        """Close every transport."""
        await self._endpoints.aclose()


def unpriced_text(target: Target) -> str:
    """Say that a target without a price can't be asked under a budget."""
    return f"{target} has no price, and a budget is set"


def _advance(steps: Flow, snapshot: Snapshot | None) -> tuple[Step | None, RouteResult | None]:
    """Resume the flow: return its next step, or its result."""
    try:
        return (next(steps) if snapshot is None else steps.send(snapshot)), None
    except StopIteration as end:
        return None, end.value


def _estimate(endpoint: Endpoint, failure: Failure, at: datetime) -> Estimate | None:
    """Estimate the cost by the usage so far; None where none began."""
    if failure.usage is None:
        return None
    cost = endpoint.cost(failure, at)
    return Estimate(failure.usage, None if cost is None else cost.pico)


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
