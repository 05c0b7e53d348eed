"""Rate limits: how much a process may use, and when each request may be sent. Pure.

A rate is a line of units in time, one after the other: each request gets the next ones, and with
them the time at which they are free. So calls are spread evenly, in order of arrival, without
refusals. All processes draw from one line in the ledger, a few seconds' worth at a time (a lease);
within its lease a process gives the units to its calls.

Tokens are taken by estimate and corrected by the reply's usage. The headers of responses can only
slow a process down: their values are old by the time they are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from promptkit.types import Limits, Model, Provider, Usage

from .hints import duration_s

LEASE_S = 2.0
"""A lease is this many seconds' worth of a rate, at most."""

BURST_S = 2.0
"""This many seconds' worth of unused units may be taken at once; older ones expire."""

SHARE_S = 2.0
"""How often a process renews its share of the slots."""

_MINUTE_S = 60.0

_DAY_S = 86_400.0

_DAY_BEGINS_S: Mapping[str, float] = {"gemini": 8 * 3600.0}
"""When a provider's day begins, in seconds after 00:00 UTC; Gemini's at midnight in California, never early."""


class Kind(StrEnum):
    """The kind of a limit."""

    REQUESTS = "requests"
    INPUT = "input_tokens"
    OUTPUT = "output_tokens"
    TODAY = "requests_today"
    SLOTS = "concurrency"


RATES = (Kind.REQUESTS, Kind.INPUT, Kind.OUTPUT)


def limits_of(provider: Provider, model: Model) -> Limits:
    """Return the limits of a model: its own, else its provider's."""
    own, base = model.limits, provider.limits
    if own is None:
        return base
    return Limits(
        requests_per_minute=_first(own.requests_per_minute, base.requests_per_minute),
        requests_per_day=_first(own.requests_per_day, base.requests_per_day),
        input_tokens_per_minute=_first(own.input_tokens_per_minute, base.input_tokens_per_minute),
        output_tokens_per_minute=_first(own.output_tokens_per_minute, base.output_tokens_per_minute),
        concurrency=_first(own.concurrency, base.concurrency),
    )


def _first(own: int | None, base: int | None) -> int | None:
    return base if own is None else own


class LeaseRequest(NamedTuple):
    """A request for units of one kind, at a rate per second; the line continues at `not_before_s` or later."""

    kind: Kind
    amount: float
    rate: float
    not_before_s: float = 0.0


def lease(free_s: float, ask: LeaseRequest, now_s: float) -> tuple[float, float]:
    """Lease the next units of a line.

    Args:
        free_s: when the line's next unit is free.
        ask: how many are requested.
        now_s: seconds since the epoch.

    Returns:
        When the leased units are free, and when the next one after them is.
    """
    start_s = max(free_s, now_s - BURST_S, ask.not_before_s)
    return start_s, start_s + ask.amount / ask.rate


def lease_today(began_s: float, used: int, wanted: int, limit: int, day_began_s: float) -> tuple[int, int]:
    """Lease requests of a day.

    Returns:
        How many are leased, and how many of the day are used then.
    """
    used = used if began_s >= day_began_s else 0
    given = max(0, min(wanted, limit - used))
    return given, used + given


def day_began_s(now_s: float, adapter: str) -> float:
    """Return when the provider's day began, in seconds since the epoch."""
    shift_s = _DAY_BEGINS_S.get(adapter, 0.0)
    return math.floor((now_s - shift_s) / _DAY_S) * _DAY_S + shift_s


def day_ends_s(now_s: float, adapter: str) -> float:
    """Return when the provider's day ends, in seconds since the epoch."""
    return day_began_s(now_s, adapter) + _DAY_S


def share(limit: int, processes: int) -> int:
    """Return a process's share of the slots."""
    return max(1, limit // max(processes, 1))


class Allowance(NamedTuple):
    """The leased units of one rate in a process; a tuple, because each call makes several.

    `credit` units are leased, the first of them free at `next_s`, the others after it at `rate`
    units per second. An estimate that was too low may leave the credit below zero.
    """

    rate: float
    credit: float = 0.0
    next_s: float = 0.0
    lot: float = 0.0
    """The size of the last lease, at `leased_s`."""
    leased_s: float = 0.0

    def request(self, kind: Kind, need: float, now_s: float) -> LeaseRequest | None:
        """Return what to lease for a need; None if the credit covers it.

        Each lease is twice the last one, up to `LEASE_S` seconds' worth, as long as they follow
        each other closely: a process that needs little takes little from the others.
        """
        missing = need - self.credit
        if missing <= 0:
            return None
        busy = now_s - self.leased_s < 2 * LEASE_S
        lot = min(2 * self.lot, LEASE_S * self.rate) if busy else 0.0
        return LeaseRequest(kind, max(missing, lot), self.rate, self.next_s if self.next_s > now_s else 0.0)

    def leased(self, amount: float, start_s: float, now_s: float) -> Allowance:
        """Return the allowance with units that are free from `start_s`."""
        next_s = max(self.next_s, start_s - max(self.credit, 0.0) / self.rate)
        return Allowance(self.rate, self.credit + amount, next_s, amount, now_s)

    def debited(self, amount: float, now_s: float) -> tuple[Allowance, float]:
        """Take units; returns the rest, and when they are free."""
        at_s = max(self.next_s, now_s - BURST_S)
        next_s = at_s + amount / self.rate
        return Allowance(self.rate, self.credit - amount, next_s, self.lot, self.leased_s), at_s

    def corrected(self, amount: float) -> Allowance:
        """Return the allowance after so many more units were used than estimated; negative: fewer."""
        next_s = self.next_s + amount / self.rate
        return Allowance(self.rate, self.credit - amount, next_s, self.lot, self.leased_s)

    def clamped(self, left: int, limit: int | None, need: float, now_s: float) -> Allowance:
        """Slow down if a response reports that only so much is left, or a lower limit."""
        rate = self.rate if limit is None else min(self.rate, max(limit, 1) / _MINUTE_S)
        next_s = now_s + (need - left) / rate
        if rate == self.rate and next_s <= self.next_s:
            return self
        return Allowance(rate, self.credit, max(self.next_s, next_s), self.lot, self.leased_s)


class Day(NamedTuple):
    """The leased requests of a day in a process: `left` of them, until `ends_s`."""

    limit: int
    left: int = 0
    ends_s: float = 0.0
    lot: int = 0
    """The size of the last lease, at `leased_s`."""
    leased_s: float = 0.0

    def request(self, now_s: float) -> int | None:
        """Return how many to lease; None if some are left.

        Each lease is twice the last one, as long as they follow each other closely, up to a
        thousandth of the limit: leased requests that are not used expire.
        """
        if self.left > 0 and now_s < self.ends_s:
            return None
        busy = now_s - self.leased_s < 2 * LEASE_S
        return max(1, min(2 * self.lot, self.limit // 1000)) if busy else 1

    def leased(self, given: int, ends_s: float, now_s: float) -> Day:
        """Return the day with more leased requests, until it ends."""
        kept = self.left if ends_s == self.ends_s else 0
        return Day(self.limit, kept + given, ends_s, given, now_s)

    def debited(self, count: int = 1) -> Day:
        """Return the day with a request less; a negative count gives some back."""
        return Day(self.limit, self.left - count, self.ends_s, self.lot, self.leased_s)


def allowances(limits: Limits) -> dict[Kind, Allowance]:
    """Return an empty allowance for each rate that is limited."""
    per_minute = (limits.requests_per_minute, limits.input_tokens_per_minute, limits.output_tokens_per_minute)
    return {
        kind: Allowance(limit / _MINUTE_S)
        for kind, limit in zip(RATES, per_minute, strict=True)
        if limit is not None
    }


@dataclass(frozen=True, slots=True)
class UsageEstimate:
    """The expected usage of calls to a target, learned from earlier calls.

    `per_character` counts input tokens; `output` the output tokens of a reply, None before the first.
    """

    per_character: float = 0.3
    output: float | None = None

    def needs(self, characters: int, most_output: int) -> Mapping[Kind, float]:
        """Return the units that a call will take of each rate."""
        output = float(most_output) if self.output is None else min(self.output, most_output)
        return {Kind.REQUESTS: 1.0, Kind.INPUT: characters * self.per_character, Kind.OUTPUT: output}

    def learned(self, characters: int, usage: Usage) -> UsageEstimate:
        """Return the estimate after a reply: moved by an eighth towards its usage."""
        per_character = self.per_character
        if characters:
            per_character += (usage.input_tokens / characters - per_character) / 8
        output = usage.output_tokens if self.output is None else self.output
        return UsageEstimate(per_character, output + (usage.output_tokens - output) / 8)


class Reported(NamedTuple):
    """The state of one limit from a response's headers: units left, and the limit per minute."""

    left: int
    limit: int | None


_HEADERS = (
    ("x-ratelimit-{}-requests", (Kind.REQUESTS,)),
    ("x-ratelimit-{}-tokens", (Kind.INPUT, Kind.OUTPUT)),
    ("anthropic-ratelimit-requests-{}", (Kind.REQUESTS,)),
    ("anthropic-ratelimit-tokens-{}", (Kind.INPUT, Kind.OUTPUT)),
    ("anthropic-ratelimit-input-tokens-{}", (Kind.INPUT,)),
    ("anthropic-ratelimit-output-tokens-{}", (Kind.OUTPUT,)),
)

_NAMES = tuple(
    (form.format("remaining"), form.format("limit"), form.format("reset"), kinds) for form, kinds in _HEADERS
)


def reported(headers: Mapping[str, str]) -> dict[Kind, Reported]:
    """Read the limits from the headers of a response; the lower value where two headers report one kind.

    Gemini reports none; its refusals name a time, which opens the throttle circuit. A count of -1 is
    ignored. A limit that resets later than in a minute is one per day.
    """
    limits: dict[Kind, Reported] = {}
    for left_name, limit_name, reset_name, kinds in _NAMES:
        left = _count(headers.get(left_name))
        if left is None:
            continue
        limit = _count(headers.get(limit_name))
        if limit is not None and _is_per_day(headers.get(reset_name, "")):
            limit = None
        for kind in kinds:
            if kind not in limits or left < limits[kind].left:
                limits[kind] = Reported(left, limit)
    return limits


@lru_cache(maxsize=64)  # a key's resets are few, and reading one takes longer than all the rest
def _is_per_day(reset: str) -> bool:
    reset_s = duration_s(reset)
    return reset_s is not None and reset_s > _MINUTE_S


def _count(text: str | None) -> int | None:
    if text is None or not text.strip().isdecimal():
        return None
    return int(text)
