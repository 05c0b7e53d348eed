"""The limits of the targets in one process: each call gets its slot and its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from promptkit import adapters
from promptkit.catalog import Catalog
from promptkit.ledger import Ledger
from promptkit.ledger.leases import Place, Today
from promptkit.routing.flow import PACE_S
from promptkit.routing.health import Park
from promptkit.routing.limits import Day, Guess, Kind, allowances, day_began_s, day_ends_s, limits_of, told
from promptkit.types import Call, Failure, Fault, Limits, Model, Outcome, Provider, Target

from .slots import Slots

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
        needs = self._guess.needs(characters, adapters.output_limit(call.params, self._model))
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
            leased = await self._ledger.lease(self._place, asks, today, now_s)
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
