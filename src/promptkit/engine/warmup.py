"""One call goes first: a provider's cache can be read only once the reply that writes it has begun.

Of a batch's rows that begin alike, the first is sent alone to each target, and the rest follow
when it has been answered. Where it fails, another leads; where that fails too, or takes long,
nobody waits any more: a cache is worth waiting for once, not a row's turn at a target that is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from promptkit.providers.params import cacheable
from promptkit.routing.catalog import Catalog
from promptkit.types import Completion, Outcome, Target

from .calls import CallRequest

WARM_S: Final = 300.0
"""How long providers keep what was cached, at least; each reading begins it anew."""


LEADERS: Final = 2
"""So many fail, then nobody waits."""


WAIT_S: Final = 30.0
"""How long a leader is waited for, at most."""


_KEPT: Final = 1_000


class Turn(Enum):
    """What a call does at the gate."""

    LEAD = "lead"
    FOLLOW = "follow"
    WAIT = "wait"


@dataclass(slots=True)
class Gate:
    """What is known of one beginning at one target. Its decisions are pure: time comes in."""

    warm_until_s: float = float("-inf")
    leading: bool = False
    failures: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def turn(self, now_s: float) -> Turn:
        """What the next call does."""
        if now_s < self.warm_until_s:
            return Turn.FOLLOW
        return Turn.WAIT if self.leading else Turn.LEAD

    def lead(self) -> None:
        """A call leads."""
        self.leading = True
        self.moved = asyncio.Event()

    def ended(self, now_s: float, *, led: bool, answered: bool) -> None:
        """A call has ended: the gate is warm where it was answered, and open where enough have failed."""
        if answered:
            self.failures = 0
            self.warm_until_s = now_s + WARM_S
        elif led:
            self.failures += 1
            if self.failures >= LEADERS:
                self.failures, self.warm_until_s = 0, now_s + WARM_S
        if led:
            self.leading = False
            self.moved.set()


@dataclass(frozen=True, slots=True)
class Place:
    """A call's place at a gate."""

    gate: Gate
    led: bool


class Leading:
    """The gates of a process.

    Args:
        catalog: which providers cache, and from how many tokens on.
        clock: seconds.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._gates: dict[tuple[Target, str], Gate] = {}

    async def enter(self, target: Target, work: CallRequest) -> Place | None:
        """Wait until the call may be sent; None where it has nothing to wait for."""
        prompt = work.call.prompt
        if work.job_id is None or prompt.prefix is None:
            return None
        prefix = cacheable(prompt, *self._catalog.pair(target))
        if prefix is None:
            return None
        gate = self._gate((target, prefix.digest))
        turn = gate.turn(self._clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S if turn is Turn.WAIT else None):
                while turn is Turn.WAIT:
                    await gate.moved.wait()
                    turn = gate.turn(self._clock())
        if turn is Turn.LEAD:
            gate.lead()
        return Place(gate, led=turn is Turn.LEAD)

    def leave(self, place: Place | None, outcome: Outcome | None) -> None:
        """The call was answered, or wasn't; None where nothing came of it."""
        if place is not None:
            answered = isinstance(outcome, Completion)
            place.gate.ended(self._clock(), led=place.led, answered=answered)

    def _gate(self, key: tuple[Target, str]) -> Gate:
        gate = self._gates.get(key)
        if gate is None:
            if len(self._gates) >= _KEPT:
                self._gates = {known: one for known, one in self._gates.items() if one.leading}
            gate = self._gates[key] = Gate()
        return gate
