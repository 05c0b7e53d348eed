"""Circuit breakers: which targets get no calls, until when and why. Pure transitions.

An *open* circuit lets no call through, a *closed* one all, a *half-open* one a single probe. Each
target has three kinds of circuits:

- *Throttle*: the server asked to wait. Scope: one model under one account. It closes by itself
  at the time that the server named.
- *Health*: the target does not answer. Scope: one model at one address, whatever the key. It opens
  after `STREAK` failures in a row, or when most calls of a minute fail. When its time is over it is
  half-open: one call finds out whether the target answers, the others wait for that result.
- *Terminal*: something must change first (a spent quota, a refused key, a model that is gone).
  Scope: the account, or one model under it. It becomes half-open, as a health circuit does.

A new time never shortens an earlier one, and no circuit shortens another: a target is skipped until
none of its circuits is open. An account is `address:key`, two fingerprints, so another key or
address has its own circuits. All processes agree because they apply the same rules to the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from promptkit.types import Completion, Failure, Fault, Outcome, Target

from .faults import ACTIONS

STREAK = 5
"""This many failures in a row open a health circuit."""

COOLDOWN_S = 15.0
"""How long a streak opens it; twice as long after each probe that fails, up to `MAX_COOLDOWN_S`."""

MAX_COOLDOWN_S = 240.0

THROTTLE_S = 5.0
"""How long a throttled target is skipped where the provider named no time."""

QUOTA_S = 3600.0
"""How long a provider with a spent quota is skipped where it named no time."""

AUTH_S = 3600.0
"""How long a refused key is not used; another key, or `providers reset`, works at once."""

GONE_S = 6 * 3600.0
"""How long a model that is gone isn't asked."""

PROBE_S = 30.0
"""How long the other calls wait for a probe before one of them becomes the next probe."""

WINDOW_S = 60.0

SAMPLE = 20
"""The ratio of failures counts from this many calls within a window."""

RATIO = 0.5
"""More failures than this share of a window's calls open a health circuit."""

_TARGET_FAULTS = frozenset({Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY})
"""Faults of a target that does not answer."""

_NOTHING_SENT = frozenset({Fault.BUDGET, Fault.UNPRICED})
"""Faults that are no news about a target: it wasn't asked."""

_DEFAULT_S: Mapping[Fault, float] = {
    Fault.RATE_LIMIT: THROTTLE_S,
    Fault.NO_CAPACITY: THROTTLE_S,
    Fault.QUOTA: QUOTA_S,
    Fault.AUTH: AUTH_S,
    Fault.MODEL_GONE: GONE_S,
}
"""How long a fault opens a circuit where the reply has no retry-after hint."""


class CircuitKind(StrEnum):
    """Why a circuit opens; see the head of this module."""

    THROTTLE = "throttle"
    HEALTH = "health"
    TERMINAL = "terminal"


TEMPORARY = frozenset({CircuitKind.THROTTLE, CircuitKind.HEALTH})
"""Circuits that close without a change of key, account or model."""


class CircuitKey(NamedTuple):
    """The scope of a circuit. An empty account or model means all; a health circuit's account is an address."""

    kind: CircuitKind
    provider: str
    account: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A circuit that is open, was open, or counts failures. Times are seconds since the epoch.

    It is open until `until_s`. `failures` counts those in a row; below `STREAK` the circuit is
    still closed (`until_s` is 0). While half-open, it waits until `probe_until_s` for its probe.
    """

    until_s: float
    fault: Fault
    why: str
    failures: int = 0
    probe_until_s: float = 0.0


Circuits: TypeAlias = Mapping[CircuitKey, CircuitState]

Changes: TypeAlias = Mapping[CircuitKey, CircuitState | None]
"""Circuits that changed; None: the circuit is closed and its record is deleted."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why a target gets no calls until `until_s` (seconds since the epoch).

    `pace` marks the own rate limit: the target is well, and the wait does not count as waiting.
    """

    until_s: float
    fault: Fault
    why: str
    pace: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The calls of a target since a failure, within `WINDOW_S`."""

    began_s: float
    calls: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """All circuits. Equal values mean the same thing: a transition returns a new one.

    `accounts` are those in use, by provider. `windows` are this process's own; a circuit that they
    open is open for all processes. Circuits of the kinds `ignored` stop no call.
    """

    circuits: Circuits = field(default_factory=dict[CircuitKey, CircuitState])
    accounts: Mapping[str, str] = field(default_factory=dict[str, str])
    windows: Mapping[Target, Window] = field(default_factory=dict[Target, Window])
    ignored: frozenset[CircuitKind] = frozenset()

    def unavailable(self, target: Target, now_s: float) -> Unavailable | None:
        """Return what keeps calls from a target now: of its circuits the one that is open longest."""
        if not self.circuits:
            return None  # the common case costs nothing
        reasons = (_unavailable(state, now_s) for _, state in self._enforced(target))
        return max(
            (reason for reason in reasons if reason is not None),
            key=lambda reason: reason.until_s,
            default=None,
        )

    def half_open(self, target: Target, now_s: float) -> tuple[CircuitKey, ...]:
        """Return the circuits of a target that wait for a probe."""
        if not self.circuits:
            return ()
        return tuple(key for key, state in self._enforced(target) if _is_half_open(key, state, now_s))

    def after(self, target: Target, outcome: Outcome, now_s: float) -> Health:
        """Return the health after an attempt has ended."""
        if isinstance(outcome, Completion):
            return self.replied(target, now_s)
        if outcome.fault in _NOTHING_SENT:
            return self
        failed = outcome.fault in _TARGET_FAULTS
        health = self._count_failure(target, outcome, now_s) if failed else self.replied(target, now_s)
        key = _circuit_opened_by(target, outcome, self.accounts.get(target.provider, ""))
        if key is None:
            return health
        open_s = (
            _DEFAULT_S.get(outcome.fault, 0.0) if outcome.retry_after_s is None else outcome.retry_after_s
        )
        state = CircuitState(now_s + open_s, outcome.fault, outcome.detail)
        return replace(health, circuits={**health.circuits, key: later(health.circuits.get(key), state)})

    def replied(self, target: Target, now_s: float) -> Health:
        """Return the health after a target answered at all.

        A circuit that opened after the request was sent stays open: the reply is older news.
        """
        if not self.circuits and not self.windows:
            return self
        closing = [key for key, state in self._circuits_of(target) if _may_close(key, state, now_s)]
        if not closing and target not in self.windows:
            return self
        circuits = {key: state for key, state in self.circuits.items() if key not in closing}
        return replace(self, circuits=circuits, windows=self._counted(target, now_s, failed=False))

    def probing(self, keys: tuple[CircuitKey, ...], until_s: float) -> Health:
        """Return the health while a probe is under way; a time in the past: the probe brought no result."""
        probed = {
            key: replace(self.circuits[key], probe_until_s=until_s) for key in keys if key in self.circuits
        }
        return replace(self, circuits={**self.circuits, **probed})

    def _circuits_of(self, target: Target) -> Iterator[tuple[CircuitKey, CircuitState]]:
        for key in circuit_keys(target, self.accounts.get(target.provider, "")):
            state = self.circuits.get(key)
            if state is not None:
                yield key, state

    def _enforced(self, target: Target) -> Iterator[tuple[CircuitKey, CircuitState]]:
        return ((key, state) for key, state in self._circuits_of(target) if key.kind not in self.ignored)

    def _count_failure(self, target: Target, failure: Failure, now_s: float) -> Health:
        key = _health_circuit(target, self.accounts.get(target.provider, ""))
        state = self.circuits.get(key)
        if state is not None and state.until_s > now_s:
            return self  # sent before the circuit opened: no news
        windows = self._counted(target, now_s, failed=True)
        failures = 1 if state is None else state.failures + 1
        window = windows[target]
        mostly_failing = window.calls >= SAMPLE and window.failed > RATIO * window.calls
        if failures >= STREAK:
            why = f"{failures} failures in a row, the last: {failure.detail}"
        else:
            why = f"{window.failed} of {window.calls} calls failed, the last: {failure.detail}"
        opens = failures >= STREAK or mostly_failing
        until_s = now_s + cooldown_s(failures) if opens else 0.0
        if opens:
            windows = {key: value for key, value in windows.items() if key != target}
        counted = CircuitState(until_s, failure.fault, why, failures)
        return replace(self, circuits={**self.circuits, key: counted}, windows=windows)

    def _counted(self, target: Target, now_s: float, *, failed: bool) -> Mapping[Target, Window]:
        """Return the windows with one more call; a window begins with a failure."""
        window = self.windows.get(target)
        if window is None or not 0 <= now_s - window.began_s < WINDOW_S:
            if not failed:
                return {key: value for key, value in self.windows.items() if key != target}
            window = Window(now_s)
        counted = replace(window, calls=window.calls + 1, failed=window.failed + failed)
        return {**self.windows, target: counted}


def circuit_keys(target: Target, account: str) -> tuple[CircuitKey, ...]:
    """Return the keys of a target's circuits."""
    provider, model = target.provider, target.model
    return (
        CircuitKey(CircuitKind.TERMINAL, provider, account),
        CircuitKey(CircuitKind.TERMINAL, provider, account, model),
        _health_circuit(target, account),
        CircuitKey(CircuitKind.THROTTLE, provider, account, model),
    )


def _health_circuit(target: Target, account: str) -> CircuitKey:
    """Return the key of the health circuit: of an address, whatever the key."""
    return CircuitKey(CircuitKind.HEALTH, target.provider, account.rpartition(":")[0], target.model)


def _circuit_opened_by(target: Target, failure: Failure, account: str) -> CircuitKey | None:
    """Return the circuit that a failure opens at once; None where it opens none."""
    if failure.fault is Fault.MODEL_GONE:
        return CircuitKey(CircuitKind.TERMINAL, target.provider, account, target.model)
    opens = ACTIONS[failure.fault].opens
    if opens == "provider":
        return CircuitKey(CircuitKind.TERMINAL, target.provider, account)
    # A transient failure opens nothing by itself, but its retry-after hint applies to every call.
    if opens == "target" or (failure.fault in _TARGET_FAULTS and failure.retry_after_s):
        return CircuitKey(CircuitKind.THROTTLE, target.provider, account, target.model)
    return None


def _unavailable(state: CircuitState, now_s: float) -> Unavailable | None:
    if state.until_s > now_s:
        return Unavailable(state.until_s, state.fault, state.why)
    if state.probe_until_s > now_s:
        return Unavailable(state.probe_until_s, state.fault, f"one call is probing it ({state.why})")
    return None


def _is_half_open(key: CircuitKey, state: CircuitState, now_s: float) -> bool:
    was_open = key.kind is not CircuitKind.THROTTLE and state.until_s > 0
    return was_open and state.until_s <= now_s and state.probe_until_s <= now_s


def _may_close(key: CircuitKey, state: CircuitState, now_s: float) -> bool:
    return key.kind is not CircuitKind.THROTTLE and state.until_s <= now_s


def cooldown_s(failures: int) -> float:
    """Return how long so many failures in a row open a health circuit, in seconds."""
    return min(COOLDOWN_S * 2.0 ** min(max(failures - STREAK, 0), 8), MAX_COOLDOWN_S)


def later(old: CircuitState | None, new: CircuitState) -> CircuitState:
    """Merge two states of a circuit: the longer time wins, with its reason; no count of failures falls."""
    if old is None:
        return new
    longer = old if (old.until_s, old.failures) > (new.until_s, new.failures) else new
    return replace(longer, failures=max(old.failures, new.failures))


def changes(before: Circuits, after: Circuits) -> Changes:
    """Return what has changed from one to the other."""
    if before is after:
        return {}
    changed: dict[CircuitKey, CircuitState | None] = {
        key: state for key, state in after.items() if before.get(key) != state
    }
    changed.update((key, None) for key in before if key not in after)
    return changed


def merged(circuits: Circuits, changed: Changes, now_s: float) -> Circuits:
    """Merge the changes of one process into the circuits that all processes know.

    A circuit that another process has opened meanwhile stays open, and no time comes nearer.
    Throttle circuits whose time is over are dropped.
    """
    result = dict(circuits)
    for key, state in changed.items():
        old = result.get(key)
        if state is not None:
            result[key] = later(old, state)
        elif old is not None and old.until_s <= now_s:
            del result[key]
    return {
        key: state
        for key, state in result.items()
        if key.kind is not CircuitKind.THROTTLE or state.until_s > now_s
    }
