"""The limits of the targets in one process: each call gets its slot and its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from promptkit.errors import LedgerError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.shared import Place, Today
from promptkit.providers.params import output_limit
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import PACE_S
from promptkit.routing.health import (
    PASSING,
    PROBE_S,
    Changes,
    CircuitKey,
    Health,
    Lanes,
    Park,
    changes,
    merged,
)
from promptkit.routing.limits import (
    SHARE_S,
    Day,
    Guess,
    Kind,
    allowances,
    day_began_s,
    day_ends_s,
    limits_of,
    share,
    told,
)
from promptkit.types import Call, Failure, Fault, Limits, Model, Outcome, Provider, Target

_TOKENS: Final = (Kind.INPUT, Kind.OUTPUT)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a call took: so many units of each rate, by a prompt of so many characters."""

    needs: Mapping[Kind, float]
    characters: int


class Gate:
    """The limits of one target: its slots, its rates and its day."""

    def __init__(
        self,
        place: Place,
        provider: Provider,
        model: Model,
        slots: tuple[Slots, ...],
        ledger: Ledger,
        clock: Callable[[], float],
    ) -> None:
        self.limits: Limits = limits_of(provider, model)
        self._place = place
        self._adapter = provider.adapter
        self._model = model
        self._slots = slots
        self._ledger = ledger
        self._clock = clock
        self._rates = allowances(self.limits)
        self._guess = Guess()
        self._needs: Mapping[Kind, float] = {}
        a_day = self.limits.requests_per_day
        self._day = None if a_day is None else Day(a_day)
        self._over_until_s = 0.0
        self._door = asyncio.Lock()
        self.paced = bool(self._rates) or self._day is not None

    def park(self, now_s: float) -> Park | None:
        """What keeps the next call from its turn for longer than it should wait here."""
        if self._over_until_s > now_s:
            why = f"its {self.limits.requests_per_day:,} requests of the day are used up"
            return Park(self._over_until_s, Fault.RATE_LIMIT, why)
        next_s = 0.0
        for allowance in self._rates.values():  # asked several times a call
            next_s = max(next_s, allowance.next_s)
        if next_s - now_s <= PACE_S:
            return None
        return Park(next_s - PACE_S, Fault.RATE_LIMIT, "its limit a minute is used up", pace=True)

    async def enter(self, call: Call) -> Turn | None:
        """Wait for a slot and for the call's turn; None where its day is used up."""
        for index, slots in enumerate(self._slots):
            try:
                await slots.take()
            except asyncio.CancelledError:
                self._give(self._slots[:index])
                raise
        turn = None
        try:
            turn = await self._turn(call) if self.paced else _UNPACED
        finally:
            if turn is None:
                self._give(self._slots)
        return turn

    def leave(self, turn: Turn, outcome: Outcome | None) -> None:
        """Give the slot back, and put the estimate right.

        Args:
            turn: what was taken.
            outcome: what came of it; None: nothing was sent.
        """
        self._give(self._slots)
        if not self.paced:
            return
        usage = None if outcome is None else outcome.usage
        if usage is not None:
            self._guess = self._guess.learned(turn.characters, usage)
            self._correct(turn, {Kind.INPUT: usage.input_tokens, Kind.OUTPUT: usage.output_tokens})
        elif outcome is None:
            self._return(turn)
        elif isinstance(outcome, Failure) and not outcome.billed:
            self._correct(turn, dict.fromkeys(_TOKENS, 0))

    def heard(self, headers: Mapping[str, str]) -> None:
        """Hold back as far as a reply says."""
        if not self._rates:
            return
        now_s, needs = self._clock(), self._needs
        for kind, word in told(headers).items():
            allowance = self._rates.get(kind)
            if allowance is not None:
                self._rates[kind] = allowance.clamped(word.left, word.limit, needs.get(kind, 1.0), now_s)

    # ------------------------------------------------------------------ inside

    async def _turn(self, call: Call) -> Turn | None:
        characters = sum(len(message.content) for message in call.prompt.messages)
        needs = self._guess.needs(characters, output_limit(call.params, self._model))
        turn, self._needs = Turn(needs, characters), needs
        async with self._door:
            if not await self._lease(needs):
                return None
            at_s = self._take(needs)
        wait_s = at_s - self._clock()
        if wait_s > 0:
            try:
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                self._return(turn)
                raise
        return turn

    def _take(self, needs: Mapping[Kind, float]) -> float:
        """Take the call's units; returns when the last of them is free."""
        now_s = at_s = self._clock()
        for kind, allowance in self._rates.items():
            self._rates[kind], its_s = allowance.taken(needs[kind], now_s)
            at_s = max(at_s, its_s)
        if self._day is not None:
            self._day = self._day.taken()
        return at_s

    async def _lease(self, needs: Mapping[Kind, float]) -> bool:
        """Make sure that there is enough; False where the day is used up."""
        now_s = self._clock()
        asks = [
            ask
            for kind, allowance in self._rates.items()
            if (ask := allowance.ask(kind, needs[kind], now_s)) is not None
        ]
        today = self._wish(now_s)
        if asks or today:
            leased = await self._ledger.shared.lease(self._place, asks, today, now_s)
            for ask in asks:
                self._rates[ask.kind] = self._rates[ask.kind].leased(
                    ask.amount, leased.starts_s[ask.kind], now_s
                )
            if today is not None and self._day is not None:
                ends_s = day_ends_s(now_s, self._adapter)
                self._day = self._day.leased(leased.today, ends_s, now_s)
                if self._day.left <= 0:
                    self._over_until_s = ends_s
                    return False
        return True

    def _wish(self, now_s: float) -> Today | None:
        """Requests of the day to lease."""
        wanted = None if self._day is None else self._day.wish(now_s)
        if self._day is None or wanted is None:
            return None
        return Today(wanted, self._day.limit, day_began_s(now_s, self._adapter))

    def _return(self, turn: Turn) -> None:
        """Nothing was sent: all of it goes back."""
        self._correct(turn, dict.fromkeys(Kind, 0))
        if self._day is not None:
            self._day = self._day.taken(-1)

    def _correct(self, turn: Turn, used: Mapping[Kind, float]) -> None:
        for kind, allowance in self._rates.items():
            if kind in used:
                self._rates[kind] = allowance.corrected(used[kind] - turn.needs[kind])

    @staticmethod
    def _give(slots: tuple[Slots, ...]) -> None:
        for one in slots:
            one.give()


_UNPACED: Final = Turn({}, 0)


class Gates:
    """The gates of all targets; a target without limits has none.

    Args:
        catalog: who has which limits.
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
        self._gates: dict[Target, Gate | None] = {}
        self._slots: dict[Place, Slots] = {}
        self._paced: dict[Target, Gate] = {}

    def of(self, target: Target) -> Gate | None:
        """The gate of a target."""
        try:
            return self._gates[target]
        except KeyError:
            gate = self._gates[target] = self._make(target)
            if gate is not None and gate.paced:
                self._paced[target] = gate
            return gate

    def park(self, target: Target, now_s: float) -> Park | None:
        """What a target's own limits keep it closed for."""
        if not self._paced:
            return None
        gate = self._paced.get(target)
        return None if gate is None else gate.park(now_s)

    def _make(self, target: Target) -> Gate | None:
        provider, model = self._catalog.pair(target)
        place = Place(target.provider, self._accounts.get(target.provider, ""), target.model)
        own = None if model.limits is None else model.limits.concurrency
        told = ((place._replace(model=""), provider.limits.concurrency), (place, own))
        slots = tuple(self._slot(where, limit) for where, limit in told if limit is not None)
        gate = Gate(place, provider, model, slots, self._ledger, self._clock)
        return gate if slots or gate.paced else None

    def _slot(self, place: Place, limit: int) -> Slots:
        if place not in self._slots:
            self._slots[place] = Slots(place, limit, self._ledger, self._clock)
        return self._slots[place]


class Slots:
    """How many requests may be under way at once; who comes first gets the next one that is free.

    A process that uses an eighth of them or more takes its equal part with the others that do.
    """

    def __init__(self, place: Place, limit: int, ledger: Ledger, clock: Callable[[], float]) -> None:
        self.allowed = limit
        self.taken = 0
        self._place = place
        self._limit = limit
        self._ledger = ledger
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._joined_s = 0.0

    async def take(self) -> None:
        """Wait for a slot."""
        if 8 * (self.taken + 1) >= self._limit:
            self._join()
        if self.taken < self.allowed and not self._waiting:
            self.taken += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give()  # it came in the very moment in which nobody wanted it any more
            else:
                self._waiting.remove(waiter)
            raise

    def give(self) -> None:
        """Let the next one have it."""
        self.taken -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.taken < self.allowed:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.taken += 1
                waiter.set_result(None)

    def _join(self) -> None:
        """Say that this process takes part; nobody waits for the answer."""
        now_s = self._clock()
        if 0 <= now_s - self._joined_s < SHARE_S:
            return
        self._joined_s = now_s
        with suppress(LedgerError):  # the call's own attempt fails likewise, and says so
            self._ledger.shared.join(self._place, now_s).add_done_callback(self._joined)

    def _joined(self, answer: asyncio.Future[object]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            count = answer.result()
            self.allowed = share(self._limit, count if isinstance(count, int) else 1)
            self._wake()


FRESH_S: Final = 0.25
"""How old what is known of other processes may be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A call's way to a target: the lanes that it tries again, and what it took of the limits."""

    probed: tuple[CircuitKey, ...] = ()
    gate: Gate | None = None
    turn: Turn | None = None


_FREE: Final = Entry()


class Standing:
    """The health of the targets in one process, and their limits.

    What is learned here holds at once, goes to the ledger with the attempt that taught it, and
    is read back by all others within `FRESH_S`. Where nothing goes wrong nothing is written,
    and one short read serves all calls of a quarter of a second.

    Args:
        ledger: which all processes share.
        catalog: who has which limits.
        accounts: the accounts in use, by provider (`accounts_of`).
        clock: seconds since the epoch.
        by_hand: ask though others were told to wait, or found that nobody answers.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        accounts: Mapping[str, str],
        clock: Callable[[], float],
        *,
        by_hand: bool = False,
    ) -> None:
        self.health = Health(accounts=accounts, ignored=PASSING if by_hand else frozenset())
        self._gates = Gates(catalog, ledger, accounts, clock)
        self._ledger = ledger
        self._clock = clock
        self._read_s = 0.0
        self._pending: dict[asyncio.Future[object], Changes] = {}
        self._sleepers: set[asyncio.Future[None]] = set()
        self._poll: asyncio.TimerHandle | None = None

    def park(self, target: Target, now_s: float) -> Park | None:
        """What keeps a target closed now."""
        return self.health.park(target, now_s) or self._gates.park(target, now_s)

    def look(self, now_s: float) -> Standing:
        """Make sure that nothing here is older than `FRESH_S`."""
        if not 0 <= now_s - self._read_s < FRESH_S:
            self._read(now_s)
        return self

    async def enter(self, target: Target, call: Call) -> Entry | None:
        """Wait for the call's turn under the target's limits, and look at its lanes again.

        Returns:
            What `leave` is told when the attempt is over, however it ends; None where the
            target closed meanwhile, or another call is trying it again.
        """
        gate, turn = self._gates.of(target), None
        if gate is not None:
            turn = await gate.enter(call)
            if turn is None:
                return None
        now_s = self._clock()
        if not self.health.lanes:
            return _FREE if gate is None else Entry((), gate, turn)
        entry, admitted = Entry(self.health.half_open(target, now_s), gate, turn), False
        try:
            if self.health.park(target, now_s) is None:
                admitted = not entry.probed or await self._claim(entry.probed)
        finally:
            if not admitted:
                self.leave(entry, None)
        return entry if admitted else None

    def heard(self, target: Target, headers: Mapping[str, str]) -> None:
        """Hold back as far as a reply's headers say."""
        gate = self._gates.of(target)
        if gate is not None:
            gate.heard(headers)

    @staticmethod
    def leave(entry: Entry, outcome: Outcome | None) -> None:
        """Give back what the entry took of the limits; no outcome: nothing was sent."""
        if entry.gate is not None and entry.turn is not None:
            entry.gate.leave(entry.turn, outcome)

    def learn(
        self, target: Target, outcome: Outcome, now_s: float, probed: tuple[CircuitKey, ...] = ()
    ) -> None:
        """Take in what came of an attempt; to be called just before the ledger closes that.

        Args:
            target: which was asked.
            outcome: what came of it.
            now_s: seconds since the epoch.
            probed: the lanes that the attempt tried again; a probe that found nothing ends, too.
        """
        before = self.health
        health = before.after(target, outcome, now_s)
        if health is before and not probed:
            return
        lost = tuple(key for key in probed if key in health.lanes and health.lanes[key].until_s <= now_s)
        if lost:
            health = health.probing(lost, 0.0)
        self._take(health, now_s)
        self._tell(changes(before.lanes, health.lanes), now_s)

    async def _claim(self, keys: tuple[CircuitKey, ...]) -> bool:
        """Become the one call that tries half-open lanes; False where another is."""
        now_s = self._clock()
        # At once, so that no other call of this process tries it meanwhile.
        self.health = self.health.probing(keys, now_s + PROBE_S)
        if await self._ledger.shared.claim_probe(keys, now_s, now_s + PROBE_S):
            return True
        self._read(self._clock())
        return False

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until a lane opens early: a probe found it well, or it was opened by hand."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._sleeping(waiter, loop), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await waiter

    @contextmanager
    def _sleeping(
        self, waiter: asyncio.Future[None], loop: asyncio.AbstractEventLoop
    ) -> Generator[None, None, None]:
        self._sleepers.add(waiter)
        if self._poll is None:
            self._poll = loop.call_later(FRESH_S, self._look_again, loop)
        try:
            yield
        finally:
            self._sleepers.discard(waiter)
            if not self._sleepers:
                self._stop_looking()

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look on behalf of all sleepers, whom nobody else would wake."""
        self._poll = loop.call_later(FRESH_S, self._look_again, loop)
        self.look(self._clock())

    def _stop_looking(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    # ------------------------------------------------------------------ inside

    def _read(self, now_s: float) -> None:
        self._read_s = now_s
        try:
            lanes: Lanes = self._ledger.shared.circuits()
        except LedgerError:
            return  # a paid reply may be waiting to be written, and that write will say what is wrong
        if not lanes and not self.health.lanes:
            return
        for changed in self._pending.values():
            lanes = merged(lanes, changed, now_s)
        self._take(replace(self.health, lanes=lanes), now_s)

    def _take(self, health: Health, now_s: float) -> None:
        before, self.health = self.health.lanes, health
        if self._sleepers and _opened(before, health.lanes, now_s):
            sleepers, self._sleepers = self._sleepers, set()
            for waiter in sleepers:
                if not waiter.done():
                    waiter.set_result(None)

    def _tell(self, changed: Changes, now_s: float) -> None:
        """Write what changed, and read what has become of it once it is on disk."""
        if not changed:
            return
        with suppress(LedgerError):  # the attempt's own end, which comes next, fails likewise and says so
            told = self._ledger.shared.merge_circuits(changed, now_s)
            self._pending[told] = changed
            told.add_done_callback(self._told)

    def _told(self, told: asyncio.Future[object]) -> None:
        self._pending.pop(told, None)
        if not told.cancelled() and told.exception() is None:
            self._read_s = 0.0


def _opened(before: Lanes, after: Lanes, now_s: float) -> bool:
    """Whether a lane opens earlier than it was to."""
    for key, state in before.items():
        until_s = max(state.until_s, state.probe_until_s)
        now = after.get(key)
        if until_s > now_s and (now is None or max(now.until_s, now.probe_until_s) < until_s):
            return True
    return False
