"""The limits of the targets in one process: circuit breakers, rate limits and slots, shared through the ledger."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType

from promptkit.errors import LedgerError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.shared import LimitKey, Today
from promptkit.providers.params import output_limit
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import PACE_S
from promptkit.routing.health import (
    PROBE_S,
    TEMPORARY,
    Changes,
    CircuitKey,
    Circuits,
    Health,
    Unavailable,
    changes,
    merged,
)
from promptkit.routing.limits import (
    SHARE_S,
    Day,
    Kind,
    UsageEstimate,
    allowances,
    day_began_s,
    day_ends_s,
    limits_of,
    reported,
    share,
)
from promptkit.types import Call, Failure, Fault, Model, Outcome, Provider, Target

FRESH_S = 0.25
"""Circuits that other processes opened are known after this time at most."""

_TOKENS = (Kind.INPUT, Kind.OUTPUT)


class TargetLimits:
    """The circuits and rate limits of all targets.

    What an attempt teaches takes effect here at once, goes to the ledger with the attempt, and is
    read by all other processes within `FRESH_S`. Where nothing fails nothing is written, and one
    short read serves all calls of a quarter of a second.

    Args:
        ledger: shared by all processes.
        catalog: the limits of providers and models.
        accounts: the accounts in use, by provider (`accounts_of`).
        clock: seconds since the epoch.
        ignore_temporary: send calls to targets with an open throttle or health circuit, too.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        accounts: Mapping[str, str],
        clock: Callable[[], float],
        *,
        ignore_temporary: bool = False,
    ) -> None:
        self.health = Health(accounts=accounts, ignored=TEMPORARY if ignore_temporary else frozenset())
        self._limiters = RateLimiters(catalog, ledger, accounts, clock)
        self._ledger = ledger
        self._clock = clock
        self._read_s = 0.0
        self._unwritten: dict[asyncio.Future[None], Changes] = {}
        self._sleepers: set[asyncio.Future[None]] = set()
        self._poll: asyncio.TimerHandle | None = None

    def slot(self, target: Target, call: Call) -> Slot:
        """Return the permission to send one request, as an `async with` block that waits for it.

        The block gets None where the target became unavailable meanwhile, or another call probes it.
        """
        return Slot(self, target, call)

    def limiter(self, target: Target) -> RateLimiter | None:
        """Return the rate limits of a target; None where it has none."""
        return self._limiters.get(target)

    async def admit(self, target: Target) -> tuple[CircuitKey, ...] | None:
        """Check the circuits again just before a request is sent.

        Returns:
            The half-open circuits that this request probes; None where it must not be sent.
        """
        now_s = self._clock()
        if not self.health.circuits:
            return ()
        probed = self.health.half_open(target, now_s)
        if self.health.unavailable(target, now_s) is not None:
            return None
        return probed if not probed or await self._claim(probed) else None

    async def _claim(self, keys: tuple[CircuitKey, ...]) -> bool:
        """Become the one call that probes half-open circuits; False where another is."""
        now_s = self._clock()
        # At once, so that no other call of this process probes it meanwhile.
        self.health = self.health.probing(keys, now_s + PROBE_S)
        if await self._ledger.shared.claim_probe(keys, now_s, now_s + PROBE_S):
            return True
        self._read(self._clock())
        return False

    def unavailable(self, target: Target, now_s: float) -> Unavailable | None:
        """Return why a target gets no calls now; None if it is available."""
        return self.health.unavailable(target, now_s) or self._limiters.unavailable(target, now_s)

    def refresh(self, now_s: float) -> TargetLimits:
        """Read the circuits of other processes, unless that was done within `FRESH_S`."""
        if not 0 <= now_s - self._read_s < FRESH_S:
            self._read(now_s)
        return self

    def learn(
        self, target: Target, outcome: Outcome, now_s: float, probed: tuple[CircuitKey, ...] = ()
    ) -> None:
        """Update the circuits after an attempt; call it just before the ledger closes the attempt.

        Args:
            target: the target of the attempt.
            outcome: what came of it.
            now_s: seconds since the epoch.
            probed: the circuits that it probed; a probe without a result ends, too.
        """
        before = self.health
        health = before.after(target, outcome, now_s)
        if health is before and not probed:
            return
        undecided = tuple(
            key for key in probed if key in health.circuits and health.circuits[key].until_s <= now_s
        )
        if undecided:
            health = health.probing(undecided, 0.0)
        self._update(health, now_s)
        self._write(changes(before.circuits, health.circuits), now_s)

    async def sleep(self, seconds: float) -> None:
        """Wait, or until a circuit closes early: a probe succeeded, or the user closed it."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._polling(waiter, loop), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await waiter

    @contextmanager
    def _polling(
        self, waiter: asyncio.Future[None], loop: asyncio.AbstractEventLoop
    ) -> Generator[None, None, None]:
        self._sleepers.add(waiter)
        if self._poll is None:
            self._poll = loop.call_later(FRESH_S, self._poll_once, loop)
        try:
            yield
        finally:
            self._sleepers.discard(waiter)
            if not self._sleepers:
                self._stop_polling()

    def _poll_once(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read on behalf of all sleepers: no other call would wake them."""
        self._poll = loop.call_later(FRESH_S, self._poll_once, loop)
        self.refresh(self._clock())

    def _stop_polling(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def _read(self, now_s: float) -> None:
        self._read_s = now_s
        try:
            circuits: Circuits = self._ledger.shared.circuits()
        except LedgerError:
            return  # a paid reply may wait to be written, and that write will tell the user why it fails
        if not circuits and not self.health.circuits:
            return
        for changed in self._unwritten.values():
            circuits = merged(circuits, changed, now_s)
        self._update(replace(self.health, circuits=circuits), now_s)

    def _update(self, health: Health, now_s: float) -> None:
        before, self.health = self.health.circuits, health
        if self._sleepers and _closed_early(before, health.circuits, now_s):
            sleepers, self._sleepers = self._sleepers, set()
            for waiter in sleepers:
                if not waiter.done():
                    waiter.set_result(None)

    def _write(self, changed: Changes, now_s: float) -> None:
        """Write the changes, and read the merged state once they are on disk."""
        if not changed:
            return
        with suppress(LedgerError):  # the attempt's own end, which comes next, fails likewise and says why
            written = self._ledger.shared.merge_circuits(changed, now_s)
            self._unwritten[written] = changed
            written.add_done_callback(self._on_written)

    def _on_written(self, written: asyncio.Future[None]) -> None:
        self._unwritten.pop(written, None)
        if not written.cancelled() and written.exception() is None:
            self._read_s = 0.0


def _closed_early(before: Circuits, after: Circuits, now_s: float) -> bool:
    """Return whether a circuit lets calls through earlier than it was to."""
    for key, state in before.items():
        until_s = max(state.until_s, state.probe_until_s)
        now = after.get(key)
        if until_s > now_s and (now is None or max(now.until_s, now.probe_until_s) < until_s):
            return True
    return False


class Slot:
    """The permission to send one request to a target: acquired by `async with`, released at its end.

    Set `outcome` to what came of the request; None means that nothing was sent.
    """

    __slots__ = ("_call", "_limiter", "_limits", "_permit", "_target", "outcome", "probed")

    def __init__(self, limits: TargetLimits, target: Target, call: Call) -> None:
        self.outcome: Outcome | None = None
        self.probed: tuple[CircuitKey, ...] = ()
        """The half-open circuits that the request probes."""
        self._limits = limits
        self._target = target
        self._call = call
        self._limiter = limits.limiter(target)
        self._permit: Permit | None = None

    async def __aenter__(self) -> Slot | None:
        if self._limiter is not None:
            self._permit = await self._limiter.acquire(self._call)
            if self._permit is None:
                return None
        probed = None
        try:
            probed = await self._limits.admit(self._target)
        finally:
            if probed is None:
                self._release()
        if probed is None:
            return None
        self.probed = probed
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Slow down as far as the headers of the response ask."""
        if self._limiter is not None:
            self._limiter.on_headers(headers)

    def _release(self) -> None:
        if self._limiter is not None and self._permit is not None:
            permit, self._permit = self._permit, None
            self._limiter.release(permit, self.outcome)


@dataclass(frozen=True, slots=True)
class Permit:
    """The units of each rate that a call took, for a prompt of this many characters."""

    needs: Mapping[Kind, float]
    characters: int


_NO_RATES = Permit({}, 0)


class RateLimiters:
    """The rate limiters of all targets; a target without limits has none.

    Args:
        catalog: the limits of providers and models.
        ledger: where all processes share them.
        accounts: the accounts in use, by provider (`accounts_of`).
        clock: seconds since the epoch.
    """

    def __init__(
        self, catalog: Catalog, ledger: Ledger, accounts: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._accounts = accounts
        self._clock = clock
        self._limiters: dict[Target, RateLimiter | None] = {}
        self._with_rates: dict[Target, RateLimiter] = {}
        self._concurrency: dict[LimitKey, ConcurrencyLimit] = {}

    def get(self, target: Target) -> RateLimiter | None:
        """Return the limiter of a target."""
        try:
            return self._limiters[target]
        except KeyError:
            limiter = self._limiters[target] = self._make(target)
            if limiter is not None and limiter.has_rates:
                self._with_rates[target] = limiter
            return limiter

    def unavailable(self, target: Target, now_s: float) -> Unavailable | None:
        """Return how long the own limits keep calls from a target."""
        if not self._with_rates:
            return None
        limiter = self._with_rates.get(target)
        return None if limiter is None else limiter.unavailable(now_s)

    def _make(self, target: Target) -> RateLimiter | None:
        provider, model = self._catalog.pair(target)
        key = LimitKey(target.provider, self._accounts.get(target.provider, ""), target.model)
        of_model = None if model.limits is None else model.limits.concurrency
        limits = ((key._replace(model=""), provider.limits.concurrency), (key, of_model))
        concurrency = tuple(
            self._concurrency_of(scope, limit) for scope, limit in limits if limit is not None
        )
        limiter = RateLimiter(key, provider, model, concurrency, self._ledger, self._clock)
        return limiter if concurrency or limiter.has_rates else None

    def _concurrency_of(self, key: LimitKey, limit: int) -> ConcurrencyLimit:
        if key not in self._concurrency:
            self._concurrency[key] = ConcurrencyLimit(key, limit, self._ledger, self._clock)
        return self._concurrency[key]


class RateLimiter:
    """The limits of one target: its concurrency, its rates per minute and its requests per day."""

    def __init__(
        self,
        key: LimitKey,
        provider: Provider,
        model: Model,
        concurrency: tuple[ConcurrencyLimit, ...],
        ledger: Ledger,
        clock: Callable[[], float],
    ) -> None:
        self._key = key
        self._adapter = provider.adapter
        self._model = model
        self._concurrency = concurrency
        self._ledger = ledger
        self._clock = clock
        self._limits = limits_of(provider, model)
        self._rates = allowances(self._limits)
        self._estimate = UsageEstimate()
        self._needs: Mapping[Kind, float] = {}
        per_day = self._limits.requests_per_day
        self._day = None if per_day is None else Day(per_day)
        self._day_over_until_s = 0.0
        self._leasing = asyncio.Lock()
        self.has_rates = bool(self._rates) or self._day is not None

    async def acquire(self, call: Call) -> Permit | None:
        """Wait for a slot and for the units of the call; None where the day's requests are used up."""
        for index, limit in enumerate(self._concurrency):
            try:
                await limit.acquire()
            except asyncio.CancelledError:
                _release(self._concurrency[:index])
                raise
        permit = None
        try:
            permit = await self._acquire_rates(call) if self.has_rates else _NO_RATES
        finally:
            if permit is None:
                _release(self._concurrency)
        return permit

    async def _acquire_rates(self, call: Call) -> Permit | None:
        characters = sum(len(message.content) for message in call.prompt.messages)
        needs = self._estimate.needs(characters, output_limit(call.params, self._model))
        permit, self._needs = Permit(needs, characters), needs
        async with self._leasing:
            if not await self._lease(needs):
                return None
            at_s = self._debit(needs)
        wait_s = at_s - self._clock()
        if wait_s > 0:
            try:
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                self._refund(permit)
                raise
        return permit

    async def _lease(self, needs: Mapping[Kind, float]) -> bool:
        """Lease from the ledger what is missing; False where the day's requests are used up."""
        now_s = self._clock()
        requests = [
            request
            for kind, allowance in self._rates.items()
            if (request := allowance.request(kind, needs[kind], now_s)) is not None
        ]
        today = self._day_request(now_s)
        if requests or today:
            leased = await self._ledger.shared.lease(self._key, requests, today, now_s)
            for request in requests:
                self._rates[request.kind] = self._rates[request.kind].leased(
                    request.amount, leased.starts_s[request.kind], now_s
                )
            if today is not None and self._day is not None:
                ends_s = day_ends_s(now_s, self._adapter)
                self._day = self._day.leased(leased.today, ends_s, now_s)
                if self._day.left <= 0:
                    self._day_over_until_s = ends_s
                    return False
        return True

    def _day_request(self, now_s: float) -> Today | None:
        """Return the requests of the day to lease."""
        wanted = None if self._day is None else self._day.request(now_s)
        if self._day is None or wanted is None:
            return None
        return Today(wanted, self._day.limit, day_began_s(now_s, self._adapter))

    def _debit(self, needs: Mapping[Kind, float]) -> float:
        """Take the call's units; returns when the last of them is free."""
        now_s = at_s = self._clock()
        for kind, allowance in self._rates.items():
            self._rates[kind], free_s = allowance.debited(needs[kind], now_s)
            at_s = max(at_s, free_s)
        if self._day is not None:
            self._day = self._day.debited()
        return at_s

    def release(self, permit: Permit, outcome: Outcome | None) -> None:
        """Release the slot, and replace the estimate by what was used.

        Args:
            permit: what `acquire` returned.
            outcome: what came of the request; None: nothing was sent.
        """
        _release(self._concurrency)
        if not self.has_rates:
            return
        usage = None if outcome is None else outcome.usage
        if usage is not None:
            self._estimate = self._estimate.learned(permit.characters, usage)
            self._correct(permit, {Kind.INPUT: usage.input_tokens, Kind.OUTPUT: usage.output_tokens})
        elif outcome is None:
            self._refund(permit)
        elif isinstance(outcome, Failure) and not outcome.billed:
            self._correct(permit, dict.fromkeys(_TOKENS, 0))

    def _refund(self, permit: Permit) -> None:
        """Give all units back: nothing was sent."""
        self._correct(permit, dict.fromkeys(Kind, 0))
        if self._day is not None:
            self._day = self._day.debited(-1)

    def _correct(self, permit: Permit, used: Mapping[Kind, float]) -> None:
        for kind, allowance in self._rates.items():
            if kind in used:
                self._rates[kind] = allowance.corrected(used[kind] - permit.needs[kind])

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Slow down as far as the headers of a response ask."""
        if not self._rates:
            return
        now_s, needs = self._clock(), self._needs
        for kind, report in reported(headers).items():
            allowance = self._rates.get(kind)
            if allowance is not None:
                self._rates[kind] = allowance.clamped(report.left, report.limit, needs.get(kind, 1.0), now_s)

    def unavailable(self, now_s: float) -> Unavailable | None:
        """Return how long the next call would wait, if that is longer than it should wait here."""
        if self._day_over_until_s > now_s:
            why = f"its {self._limits.requests_per_day:,} requests of the day are used up"
            return Unavailable(self._day_over_until_s, Fault.RATE_LIMIT, why)
        next_s = 0.0
        for allowance in self._rates.values():  # a loop: this runs several times per call
            next_s = max(next_s, allowance.next_s)
        if next_s - now_s <= PACE_S:
            return None
        return Unavailable(
            next_s - PACE_S, Fault.RATE_LIMIT, "its rate limit per minute is used up", pace=True
        )


def _release(limits: tuple[ConcurrencyLimit, ...]) -> None:
    for limit in limits:
        limit.release()


class ConcurrencyLimit:
    """How many requests may be in flight at once; the first call that waits gets the next free slot.

    A process that uses an eighth of the slots or more shares them equally with the others that do.
    """

    def __init__(self, key: LimitKey, limit: int, ledger: Ledger, clock: Callable[[], float]) -> None:
        self.allowed = limit
        """The share of this process."""
        self.in_use = 0
        self._key = key
        self._limit = limit
        self._ledger = ledger
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._joined_s = 0.0

    async def acquire(self) -> None:
        """Wait for a slot."""
        if 8 * (self.in_use + 1) >= self._limit:
            self._join()
        if self.in_use < self.allowed and not self._waiting:
            self.in_use += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the slot came in the same moment as the cancellation
            else:
                self._waiting.remove(waiter)
            raise

    def release(self) -> None:
        """Give the slot to the next call that waits."""
        self.in_use -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.in_use < self.allowed:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.in_use += 1
                waiter.set_result(None)

    def _join(self) -> None:
        """Tell the other processes that this one shares the slots; no call waits for the answer."""
        now_s = self._clock()
        if 0 <= now_s - self._joined_s < SHARE_S:
            return
        self._joined_s = now_s
        with suppress(LedgerError):  # the call's own attempt fails likewise, and says why
            self._ledger.shared.join(self._key, now_s).add_done_callback(self._on_joined)

    def _on_joined(self, joined: asyncio.Future[int]) -> None:
        if not joined.cancelled() and joined.exception() is None:
            self.allowed = share(self._limit, joined.result())
            self._wake()
