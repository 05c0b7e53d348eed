"""Keeping to a provider's limits: how much a process may take, and when each request has its turn. Pure.

A rate is kept as a line of units in time, one after the other: whoever wants some gets the next
ones, and with them the time at which they are free. So calls are spread evenly, first come first
served, and nobody has to be told to try again. All processes draw from one line in the ledger, a
few seconds' worth at a time (a lease); within its lease a process gives the units to its calls.

Tokens are taken by estimate and put right by the reply's usage. The replies' own headers can
only hold a process back: what they say is old by the time it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from promptkit.types import Limits, Model, Provider, Usage

from .hints import duration_s

LEASE_S: Final = 2.0
"""So many seconds' worth of a rate is leased at once, at most."""


BURST_S: Final = 2.0
"""So many seconds' worth that nobody used may be taken at once; what is older is lost."""


SHARE_S: Final = 2.0
"""How often a process says that it takes its part of the slots."""


_MINUTE_S: Final = 60.0


_DAY_S: Final = 86_400.0


_DAY_BEGINS_S: Final[Mapping[str, float]] = {"gemini": 8 * 3600.0}
"""Where a provider's day begins after 00:00 UTC; Gemini's at midnight in California, never early."""


class Kind(StrEnum):
    """What is limited."""

    REQUESTS = "requests"
    INPUT = "input_tokens"
    OUTPUT = "output_tokens"
    TODAY = "requests_today"
    SLOTS = "concurrency"


RATES: Final = (Kind.REQUESTS, Kind.INPUT, Kind.OUTPUT)


def limits_of(provider: Provider, model: Model) -> Limits:
    """What holds for a model: its own limits, else its provider's."""
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


# ------------------------------------------------------------------- what is leased
class Ask(NamedTuple):
    """A wish for units of one kind, at the asker's rate; `not_before_s` holds the line back."""

    kind: Kind
    amount: float
    rate: float
    not_before_s: float = 0.0


def lease(free_s: float, ask: Ask, now_s: float) -> tuple[float, float]:
    """Give the next units of a line.

    Args:
        free_s: from when the line's next unit is free.
        ask: how many are wanted.
        now_s: seconds since the epoch.

    Returns:
        From when the units given are free, and from when the next one after them is.
    """
    start_s = max(free_s, now_s - BURST_S, ask.not_before_s)
    return start_s, start_s + ask.amount / ask.rate


def lease_today(began_s: float, used: int, wanted: int, limit: int, day_began_s: float) -> tuple[int, int]:
    """Give requests of a day.

    Returns:
        How many are given, and how many of the day are used then.
    """
    used = used if began_s >= day_began_s else 0
    given = max(0, min(wanted, limit - used))
    return given, used + given


def day_began_s(now_s: float, adapter: str) -> float:
    """When the provider's day began, in seconds since the epoch."""
    shift_s = _DAY_BEGINS_S.get(adapter, 0.0)
    return math.floor((now_s - shift_s) / _DAY_S) * _DAY_S + shift_s


def day_ends_s(now_s: float, adapter: str) -> float:
    """When it ends."""
    return day_began_s(now_s, adapter) + _DAY_S


def share(limit: int, processes: int) -> int:
    """A process's part of the slots, where so many take part."""
    return max(1, limit // max(processes, 1))


# ------------------------------------------------------------------- what a process holds
class Allowance(NamedTuple):
    """What a process holds of one rate; a tuple, for each call makes some of them.

    `credit` units are its own, the first of them free at `next_s`, the others after it at `rate`
    units a second. An estimate that was too low may leave the credit below zero.
    """

    rate: float
    credit: float = 0.0
    next_s: float = 0.0
    lot: float = 0.0
    """How many were leased the last time, and when."""
    leased_s: float = 0.0

    def ask(self, kind: Kind, need: float, now_s: float) -> Ask | None:
        """What to lease for a need; None where the credit covers it.

        Each lease is twice the last one, up to `LEASE_S` seconds' worth, as long as they follow
        each other closely: who needs little takes little away from the others.
        """
        missing = need - self.credit
        if missing <= 0:
            return None
        busy = now_s - self.leased_s < 2 * LEASE_S
        lot = min(2 * self.lot, LEASE_S * self.rate) if busy else 0.0
        return Ask(kind, max(missing, lot), self.rate, self.next_s if self.next_s > now_s else 0.0)

    def leased(self, amount: float, start_s: float, now_s: float) -> Allowance:
        """The same with units that are free from `start_s`."""
        next_s = max(self.next_s, start_s - max(self.credit, 0.0) / self.rate)
        return Allowance(self.rate, self.credit + amount, next_s, amount, now_s)

    def taken(self, amount: float, now_s: float) -> tuple[Allowance, float]:
        """Take units; returns what is left, and when their turn is."""
        at_s = max(self.next_s, now_s - BURST_S)
        next_s = at_s + amount / self.rate
        return Allowance(self.rate, self.credit - amount, next_s, self.lot, self.leased_s), at_s

    def corrected(self, amount: float) -> Allowance:
        """The same after it turned out that so many more were used; negative: fewer."""
        next_s = self.next_s + amount / self.rate
        return Allowance(self.rate, self.credit - amount, next_s, self.lot, self.leased_s)

    def clamped(self, left: int, limit: int | None, need: float, now_s: float) -> Allowance:
        """Hold back as far as a reply says that only so much is left, or that the limit is lower."""
        rate = self.rate if limit is None else min(self.rate, max(limit, 1) / _MINUTE_S)
        next_s = now_s + (need - left) / rate
        if rate == self.rate and next_s <= self.next_s:
            return self
        return Allowance(rate, self.credit, max(self.next_s, next_s), self.lot, self.leased_s)


class Day(NamedTuple):
    """What a process holds of a day's requests: `left` of those that it leased, until `ends_s`."""

    limit: int
    left: int = 0
    ends_s: float = 0.0
    lot: int = 0
    """How many were leased the last time, and when."""
    leased_s: float = 0.0

    def wish(self, now_s: float) -> int | None:
        """How many to lease; None where some are left.

        Each lease is twice the last one, as long as they follow each other closely, up to a
        thousandth of the limit: what is leased and not used is lost.
        """
        if self.left > 0 and now_s < self.ends_s:
            return None
        busy = now_s - self.leased_s < 2 * LEASE_S
        return max(1, min(2 * self.lot, self.limit // 1000)) if busy else 1

    def leased(self, given: int, ends_s: float, now_s: float) -> Day:
        """The same with requests of the day that ends then."""
        kept = self.left if ends_s == self.ends_s else 0
        return Day(self.limit, kept + given, ends_s, given, now_s)

    def taken(self, count: int = 1) -> Day:
        """The same with a request less; a negative count gives some back."""
        return Day(self.limit, self.left - count, self.ends_s, self.lot, self.leased_s)


def allowances(limits: Limits) -> dict[Kind, Allowance]:
    """An empty allowance for each rate that is limited."""
    told = (limits.requests_per_minute, limits.input_tokens_per_minute, limits.output_tokens_per_minute)
    return {
        kind: Allowance(limit / _MINUTE_S)
        for kind, limit in zip(RATES, told, strict=True)
        if limit is not None
    }


# ------------------------------------------------------------------- estimates
@dataclass(frozen=True, slots=True)
class Guess:
    """What calls of a target will use, learned from those before.

    `per_character` are input tokens; `output` are output tokens of a reply, None before the first.
    """

    per_character: float = 0.3
    output: float | None = None

    def needs(self, characters: int, most_output: int) -> Mapping[Kind, float]:
        """What a call will take of each rate."""
        output = float(most_output) if self.output is None else min(self.output, most_output)
        return {Kind.REQUESTS: 1.0, Kind.INPUT: characters * self.per_character, Kind.OUTPUT: output}

    def learned(self, characters: int, usage: Usage) -> Guess:
        """The same after a reply: an eighth of the way to what it used."""
        per_character = self.per_character
        if characters:
            per_character += (usage.input_tokens / characters - per_character) / 8
        output = usage.output_tokens if self.output is None else self.output
        return Guess(per_character, output + (usage.output_tokens - output) / 8)


# ------------------------------------------------------------------- what replies say
class Told(NamedTuple):
    """What a reply's headers say of one kind: how much is left, and of how much a minute."""

    left: int
    limit: int | None


_HEADERS: Final = (
    ("x-ratelimit-{}-requests", (Kind.REQUESTS,)),
    ("x-ratelimit-{}-tokens", (Kind.INPUT, Kind.OUTPUT)),
    ("anthropic-ratelimit-requests-{}", (Kind.REQUESTS,)),
    ("anthropic-ratelimit-tokens-{}", (Kind.INPUT, Kind.OUTPUT)),
    ("anthropic-ratelimit-input-tokens-{}", (Kind.INPUT,)),
    ("anthropic-ratelimit-output-tokens-{}", (Kind.OUTPUT,)),
)


_NAMES: Final = tuple(
    (form.format("remaining"), form.format("limit"), form.format("reset"), kinds) for form, kinds in _HEADERS
)


def told(headers: Mapping[str, str]) -> dict[Kind, Told]:
    """What a reply says of the limits; the least where two headers speak of one kind.

    Gemini's replies say nothing; its refusals name a time, which closes the throttle lane. A
    count of -1 is no count. A limit whose reset is further off than a minute is a day's.
    """
    found: dict[Kind, Told] = {}
    for left_name, limit_name, reset_name, kinds in _NAMES:
        left = _count(headers.get(left_name))
        if left is None:
            continue
        limit = _count(headers.get(limit_name))
        if limit is not None and _is_a_days(headers.get(reset_name, "")):
            limit = None
        for kind in kinds:
            if kind not in found or left < found[kind].left:
                found[kind] = Told(left, limit)
    return found


@lru_cache(maxsize=64)  # a key's resets are few, and reading one takes longer than all the rest
def _is_a_days(reset: str) -> bool:
    reset_s = duration_s(reset)
    return reset_s is not None and reset_s > _MINUTE_S


def _count(text: str | None) -> int | None:
    if text is None or not text.strip().isdecimal():
        return None
    return int(text)
