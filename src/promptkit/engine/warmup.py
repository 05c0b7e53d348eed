"""The warm-up call: a provider's prompt cache can be read only after the reply that writes it has begun.

Of a batch's rows with the same beginning, the first is sent alone to each target, and the rest
follow when it is answered. If it fails, another warms up; if that fails too, or takes long, no
call waits any more: waiting for the cache pays off once, not for each row at a target that is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

from promptkit.providers.params import cacheable
from promptkit.routing.catalog import Catalog
from promptkit.types import Completion, Outcome, Target

from .calls import CallRequest

WARM_S = 300.0
"""How long providers keep a cached prompt, at least; each read prolongs it."""

MAX_FAILURES = 2
"""After this many failed warm-up calls no call waits."""

WAIT_S = 30.0
"""How long a call waits for the warm-up call, at most."""

_KEPT = 1_000


class Warmup:
    """The warm-up calls of a process.

    Args:
        catalog: which providers cache, and from how many tokens on.
        clock: seconds.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._prefixes: dict[tuple[Target, str], PrefixState] = {}

    def slot(self, target: Target, request: CallRequest) -> WarmupSlot:
        """Return an `async with` block that begins when the call may be sent."""
        return WarmupSlot(self._prefix(target, request), self._clock)

    def _prefix(self, target: Target, request: CallRequest) -> PrefixState | None:
        """Return the state of the call's prompt prefix; None where no cache is worth waiting for."""
        prompt = request.call.prompt
        if request.job_id is None or prompt.prefix is None:
            return None
        prefix = cacheable(prompt, *self._catalog.pair(target))
        if prefix is None:
            return None
        key = (target, prefix.digest)
        state = self._prefixes.get(key)
        if state is None:
            if len(self._prefixes) >= _KEPT:
                self._prefixes = {key: state for key, state in self._prefixes.items() if state.warming_up}
            state = self._prefixes[key] = PrefixState()
        return state


class WarmupSlot:
    """An `async with` block around one request: it waits for the warm-up call, or is that call.

    Set `outcome` to what came of the request; None means that nothing was sent.
    """

    __slots__ = ("_clock", "_prefix", "_warms_up", "outcome")

    def __init__(self, prefix: PrefixState | None, clock: Callable[[], float]) -> None:
        self.outcome: Outcome | None = None
        self._prefix = prefix
        self._clock = clock
        self._warms_up = False

    async def __aenter__(self) -> Self:
        prefix = self._prefix
        if prefix is None:
            return self
        action = prefix.next_action(self._clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S if action is Action.WAIT else None):
                while action is Action.WAIT:
                    await prefix.changed.wait()
                    action = prefix.next_action(self._clock())
        if action is Action.WARM_UP:
            self._warms_up = True
            prefix.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._prefix is not None:
            succeeded = isinstance(self.outcome, Completion)
            self._prefix.ended(self._clock(), warmed_up=self._warms_up, succeeded=succeeded)


class Action(Enum):
    """What a call does: warm the cache up, be sent at once, or wait for the warm-up call."""

    WARM_UP = "warm up"
    SEND = "send"
    WAIT = "wait"


@dataclass(slots=True)
class PrefixState:
    """What is known of one prompt prefix at one target. Its decisions are pure: the time comes in."""

    warm_until_s: float = float("-inf")
    warming_up: bool = False
    failures: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def next_action(self, now_s: float) -> Action:
        """Return what the next call does."""
        if now_s < self.warm_until_s:
            return Action.SEND
        return Action.WAIT if self.warming_up else Action.WARM_UP

    def begin(self) -> None:
        """Begin a warm-up call."""
        self.warming_up = True
        self.changed = asyncio.Event()

    def ended(self, now_s: float, *, warmed_up: bool, succeeded: bool) -> None:
        """End a call: the cache is warm after a reply, and not waited for after enough failures."""
        if succeeded:
            self.failures = 0
            self.warm_until_s = now_s + WARM_S
        elif warmed_up:
            self.failures += 1
            if self.failures >= MAX_FAILURES:
                self.failures, self.warm_until_s = 0, now_s + WARM_S
        if warmed_up:
            self.warming_up = False
            self.changed.set()
