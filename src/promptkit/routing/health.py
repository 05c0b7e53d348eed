"""Which targets are parked, until when and why: pure transitions on three lanes kept apart.

- *Throttle*: the server asked for a pause. Of one model under one account, until the time that
  it named; it opens by itself.
- *Health*: it doesn't answer. Of one model at one address, whatever the key; closed after `STREAK` failures in
  a row, or where most of a minute's calls fail. Once its time is over it is half open: one call
  finds out whether it answers again, the others wait for what that finds.
- *Terminal*: nothing can be had there until something changes (a spent quota, a refused key, a
  model that is gone). Of the account, or of one model under it. Half open like the health lane.

A new deadline never shortens an old one, and no lane shortens another: a target is closed until
the last of its lanes opens. An account is `address:key`, two fingerprints, so that another key or
address stands in other lanes. The same rules, applied to what the ledger holds, make all processes agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from promptkit.types import Completion, Failure, Fault, Outcome, Target

from .faults import ACTIONS

STREAK: Final = 5
"""So many failures in a row park a target."""


COOL_S: Final = 15.0
"""How long a streak parks it; twice as long after each probe that fails, up to `LONGEST_COOL_S`."""


LONGEST_COOL_S: Final = 240.0


THROTTLE_S: Final = 5.0
"""How long a throttled target rests where the provider named no time."""


QUOTA_S: Final = 3600.0
"""How long a spent quota parks a provider where it named no time."""


AUTH_S: Final = 3600.0
"""How long a refused key is left alone; another key, or `providers reset`, opens at once."""


GONE_S: Final = 6 * 3600.0
"""How long a model that is gone isn't asked again."""


PROBE_S: Final = 30.0
"""How long the others wait for a probe before one of them is the next."""


WINDOW_S: Final = 60.0


SAMPLE: Final = 20
"""So many calls within a window, before their ratio says anything."""


RATIO: Final = 0.5
"""More failures than this share of a window's calls park a target."""


_STUMBLES: Final = frozenset({Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY})
"""The faults that say that a target doesn't answer."""


_UNSENT: Final = frozenset({Fault.BUDGET, Fault.UNPRICED})
"""The faults that say nothing of a target: it wasn't asked."""


_REST_S: Final[Mapping[Fault, float]] = {
    Fault.RATE_LIMIT: THROTTLE_S,
    Fault.NO_CAPACITY: THROTTLE_S,
    Fault.QUOTA: QUOTA_S,
    Fault.AUTH: AUTH_S,
    Fault.MODEL_GONE: GONE_S,
}
"""How long a fault parks where the reply carries no hint."""


class Lane(StrEnum):
    """What closed a target."""

    THROTTLE = "throttle"
    HEALTH = "health"
    TERMINAL = "terminal"


PASSING: Final = frozenset({Lane.THROTTLE, Lane.HEALTH})
"""The lanes that say how a target was lately, and not what must change before it can be asked."""


class CircuitKey(NamedTuple):
    """Whose lane it is; an empty account or model stands for all, and a health lane's account is an address."""

    lane: Lane
    provider: str
    account: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Park:
    """A target that is closed until `until_s` (seconds since the epoch), and why.

    `pace` marks one's own limit: nothing is wrong there, and the wait is nobody's patience.
    """

    until_s: float
    fault: Fault
    why: str
    pace: bool = False


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A lane that is closed, was, or soon will be. Times are seconds since the epoch.

    `failures` counts those in a row; below `STREAK` nothing is closed (`until_s` is 0).
    `probe_until_s` is until when a half-open lane waits for its probe.
    """

    until_s: float
    fault: Fault
    why: str
    failures: int = 0
    probe_until_s: float = 0.0


Lanes: TypeAlias = Mapping[CircuitKey, CircuitState]


Changes: TypeAlias = Mapping[CircuitKey, CircuitState | None]
"""What became of lanes; None: all is well there."""


@dataclass(frozen=True, slots=True)
class Window:
    """The calls of a target since a failure, for `WINDOW_S`."""

    began_s: float
    calls: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """The lanes as they stand. Equal values mean the same thing: a transition returns a new one.

    `accounts` are those in use, by provider. `windows` are this process's own; a lane that they
    close is everybody's. Lanes that are `ignored` are kept, and keep nobody out.
    """

    lanes: Lanes = field(default_factory=dict[CircuitKey, CircuitState])
    accounts: Mapping[str, str] = field(default_factory=dict[str, str])
    windows: Mapping[Target, Window] = field(default_factory=dict[Target, Window])
    ignored: frozenset[Lane] = frozenset()

    def park(self, target: Target, now_s: float) -> Park | None:
        """What keeps a target closed now: of its lanes the one that opens last."""
        if not self.lanes:
            return None  # the common case costs nothing
        parks = (_park_of(state, now_s) for _, state in self._heeded(target))
        return max((park for park in parks if park is not None), key=lambda park: park.until_s, default=None)

    def half_open(self, target: Target, now_s: float) -> tuple[CircuitKey, ...]:
        """The lanes whose time is over, and of which nobody knows yet whether they are well."""
        if not self.lanes:
            return ()
        return tuple(key for key, state in self._heeded(target) if _is_half_open(key, state, now_s))

    def after(self, target: Target, outcome: Outcome, now_s: float) -> Health:
        """The health once an attempt has ended."""
        if isinstance(outcome, Completion):
            return self.answered(target, now_s)
        if outcome.fault in _UNSENT:
            return self
        stumbled = outcome.fault in _STUMBLES
        known = self._stumbled(target, outcome, now_s) if stumbled else self.answered(target, now_s)
        key = _lane_of(target, outcome, self.accounts.get(target.provider, ""))
        if key is None:
            return known
        rest_s = _REST_S.get(outcome.fault, 0.0) if outcome.retry_after_s is None else outcome.retry_after_s
        closed = CircuitState(now_s + rest_s, outcome.fault, outcome.detail)
        return replace(known, lanes={**known.lanes, key: later(known.lanes.get(key), closed)})

    def answered(self, target: Target, now_s: float) -> Health:
        """The health once a target answered at all.

        Whoever asked before a lane was closed has nothing to say of it: it stays closed.
        """
        if not self.lanes and not self.windows:
            return self
        well = [key for key, state in self._lanes_of(target) if _may_clear(key, state, now_s)]
        window = self.windows.get(target)
        if not well and window is None:
            return self
        lanes = {key: state for key, state in self.lanes.items() if key not in well}
        return replace(self, lanes=lanes, windows=self._counted(target, now_s, failed=False))

    def probing(self, keys: tuple[CircuitKey, ...], until_s: float) -> Health:
        """The same while a probe is under way; a time in the past: it came to nothing."""
        probed = {key: replace(self.lanes[key], probe_until_s=until_s) for key in keys if key in self.lanes}
        return replace(self, lanes={**self.lanes, **probed})

    # ------------------------------------------------------------------ inside

    def _lanes_of(self, target: Target) -> Iterator[tuple[CircuitKey, CircuitState]]:
        for key in keys_of(target, self.accounts.get(target.provider, "")):
            state = self.lanes.get(key)
            if state is not None:
                yield key, state

    def _heeded(self, target: Target) -> Iterator[tuple[CircuitKey, CircuitState]]:
        return ((key, state) for key, state in self._lanes_of(target) if key.lane not in self.ignored)

    def _stumbled(self, target: Target, failure: Failure, now_s: float) -> Health:
        key = _health_of(target, self.accounts.get(target.provider, ""))
        state = self.lanes.get(key)
        if state is not None and state.until_s > now_s:
            return self  # asked before it was closed: that is known by now
        windows = self._counted(target, now_s, failed=True)
        failures = 1 if state is None else state.failures + 1
        window = windows[target]
        bad = window.calls >= SAMPLE and window.failed > RATIO * window.calls
        if failures >= STREAK:
            why = f"{failures} failures in a row, the last: {failure.detail}"
        else:
            why = f"{window.failed} of {window.calls} calls failed, the last: {failure.detail}"
        closed = failures >= STREAK or bad
        until_s = now_s + cool_s(failures) if closed else 0.0
        if closed:
            windows = {key: value for key, value in windows.items() if key != target}
        counted = CircuitState(until_s, failure.fault, why, failures)
        return replace(self, lanes={**self.lanes, key: counted}, windows=windows)

    def _counted(self, target: Target, now_s: float, *, failed: bool) -> Mapping[Target, Window]:
        """The windows with one more call; without a failure in it there is none to keep."""
        window = self.windows.get(target)
        if window is None or not 0 <= now_s - window.began_s < WINDOW_S:
            if not failed:
                return {key: value for key, value in self.windows.items() if key != target}
            window = Window(now_s)
        counted = replace(window, calls=window.calls + 1, failed=window.failed + failed)
        return {**self.windows, target: counted}


def keys_of(target: Target, account: str) -> tuple[CircuitKey, ...]:
    """The lanes that a target stands in."""
    provider, model = target.provider, target.model
    return (
        CircuitKey(Lane.TERMINAL, provider, account),
        CircuitKey(Lane.TERMINAL, provider, account, model),
        _health_of(target, account),
        CircuitKey(Lane.THROTTLE, provider, account, model),
    )


def _health_of(target: Target, account: str) -> CircuitKey:
    """The health lane: of an address, whoever asks there."""
    return CircuitKey(Lane.HEALTH, target.provider, account.rpartition(":")[0], target.model)


def cool_s(failures: int) -> float:
    """How long so many failures in a row close a target, in seconds."""
    return min(COOL_S * 2.0 ** min(max(failures - STREAK, 0), 8), LONGEST_COOL_S)


def later(old: CircuitState | None, new: CircuitState) -> CircuitState:
    """A lane that is to be closed twice: the longer time holds, with its reason; no count goes back."""
    if old is None:
        return new
    stays = old if (old.until_s, old.failures) > (new.until_s, new.failures) else new
    return replace(stays, failures=max(old.failures, new.failures))


def changes(before: Lanes, after: Lanes) -> Changes:
    """What has changed from one to the other."""
    if before is after:
        return {}
    changed: dict[CircuitKey, CircuitState | None] = {
        key: state for key, state in after.items() if before.get(key) != state
    }
    changed.update((key, None) for key in before if key not in after)
    return changed


def merged(lanes: Lanes, changed: Changes, now_s: float) -> Lanes:
    """What one process learned, brought into what all of them know.

    What another has closed meanwhile stays closed, and a deadline never comes nearer. Pauses that
    are over are forgotten.
    """
    result = dict(lanes)
    for key, state in changed.items():
        old = result.get(key)
        if state is not None:
            result[key] = later(old, state)
        elif old is not None and old.until_s <= now_s:
            del result[key]
    return {
        key: state for key, state in result.items() if key.lane is not Lane.THROTTLE or state.until_s > now_s
    }


def _lane_of(target: Target, failure: Failure, account: str) -> CircuitKey | None:
    """The lane that a failure closes at once; None where it closes none."""
    if failure.fault is Fault.MODEL_GONE:
        return CircuitKey(Lane.TERMINAL, target.provider, account, target.model)
    park = ACTIONS[failure.fault].park
    if park == "provider":
        return CircuitKey(Lane.TERMINAL, target.provider, account)
    # A stumble parks nothing by itself; but what the server asks for holds for every call.
    if park == "target" or (failure.fault in _STUMBLES and failure.retry_after_s):
        return CircuitKey(Lane.THROTTLE, target.provider, account, target.model)
    return None


def _park_of(state: CircuitState, now_s: float) -> Park | None:
    if state.until_s > now_s:
        return Park(state.until_s, state.fault, state.why)
    if state.probe_until_s > now_s:
        return Park(state.probe_until_s, state.fault, f"one call is trying it again ({state.why})")
    return None


def _is_half_open(key: CircuitKey, state: CircuitState, now_s: float) -> bool:
    probed = key.lane is not Lane.THROTTLE and state.until_s > 0
    return probed and state.until_s <= now_s and state.probe_until_s <= now_s


def _may_clear(key: CircuitKey, state: CircuitState, now_s: float) -> bool:
    return key.lane is not Lane.THROTTLE and state.until_s <= now_s
