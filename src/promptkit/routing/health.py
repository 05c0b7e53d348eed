"""Which targets are parked, until when and why: pure transitions.

Two lanes are kept apart. A *provider* is parked when its key or its quota is spent: nothing it
serves can answer. A *target* is parked when it asked for a pause, lost its model, or failed
five times in a row. A new deadline never shortens an old one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from promptkit.types import Completion, Failure, Fault, Outcome, Target

from .faults import ACTIONS

_K = TypeVar("_K")

STREAK: Final = 5
"""So many failures in a row park a target."""
COOL_S: Final = 15.0
"""How long a streak parks it."""
THROTTLE_S: Final = 5.0
"""How long a throttled target rests where the provider named no time."""
QUOTA_S: Final = 3600.0
"""How long a spent quota parks a provider where it named no time."""

_STUMBLES: Final = frozenset({Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY})
"""The faults that count towards a streak."""

_REST_S: Final[Mapping[Fault, float]] = {
    Fault.RATE_LIMIT: THROTTLE_S,
    Fault.NO_CAPACITY: THROTTLE_S,
    Fault.QUOTA: QUOTA_S,
    Fault.AUTH: math.inf,
    Fault.MODEL_GONE: math.inf,
}
"""How long a fault parks where the reply carries no hint; infinite: until this process ends."""


@dataclass(frozen=True, slots=True)
class Park:
    """A lane that is closed until `until_s` (seconds since the epoch), and why."""

    until_s: float
    fault: Fault
    why: str


@dataclass(frozen=True, slots=True)
class Health:
    """The lanes as they stand. Equal values mean the same thing: a transition returns a new one."""

    providers: Mapping[str, Park] = field(default_factory=dict[str, Park])
    targets: Mapping[Target, Park] = field(default_factory=dict[Target, Park])
    streaks: Mapping[Target, int] = field(default_factory=dict[Target, int])

    def park(self, target: Target, now_s: float) -> Park | None:
        """What keeps a target closed now: of its lanes the one that opens last."""
        lanes = (self.providers.get(target.provider), self.targets.get(target))
        closed = [lane for lane in lanes if lane is not None and lane.until_s > now_s]
        return max(closed, key=lambda lane: lane.until_s, default=None)

    def after(self, target: Target, outcome: Outcome, now_s: float) -> Health:
        """The health once an attempt has ended."""
        if isinstance(outcome, Completion):
            return self._after_success(target)
        lane = ACTIONS[outcome.fault].park
        if lane == "provider":
            return replace(self, providers=_parked(self.providers, target.provider, _park(outcome, now_s)))
        if lane == "target":
            return replace(self, targets=_parked(self.targets, target, _park(outcome, now_s)))
        if outcome.fault in _STUMBLES:
            return self._after_stumble(target, outcome, now_s)
        return self

    def _after_success(self, target: Target) -> Health:
        if target not in self.streaks:
            return self  # the common case costs nothing
        return replace(self, streaks={key: n for key, n in self.streaks.items() if key != target})

    def _after_stumble(self, target: Target, failure: Failure, now_s: float) -> Health:
        streak = self.streaks.get(target, 0) + 1
        stumbled = replace(self, streaks={**self.streaks, target: streak})
        if streak < STREAK:
            return stumbled
        why = f"{streak} failures in a row, the last: {failure.detail}"
        cooling = Park(now_s + COOL_S, failure.fault, why)
        return replace(stumbled, targets=_parked(self.targets, target, cooling))


def _park(failure: Failure, now_s: float) -> Park:
    hint = failure.retry_after_s
    rest_s = _REST_S[failure.fault] if hint is None else hint
    return Park(now_s + rest_s, failure.fault, failure.detail)


def _parked(parks: Mapping[_K, Park], key: _K, park: Park) -> Mapping[_K, Park]:
    """The lanes with one more closed, unless it is closed for longer already."""
    old = parks.get(key)
    return parks if old is not None and old.until_s > park.until_s else {**parks, key: park}
