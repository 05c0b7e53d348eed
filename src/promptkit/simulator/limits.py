"""Rate limits as the providers keep them: buckets that refill, days that are fixed, their headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final

from .models import Family
from .scenario import LimitRule

_MINUTE: Final = 60.0


_DAY: Final = 86_400


_GENEROUS: Final = LimitRule(requests_per_minute=30_000, tokens_per_minute=150_000_000)


_LONG_AGO: Final = "1970-01-01"


@dataclass(slots=True)
class Bucket:
    """Holds up to `capacity`, refills evenly within a minute. Times are seconds of any clock."""

    capacity: float
    level: float
    at: float

    def refill(self, now: float) -> None:
        """Bring the level up to what it is now."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.capacity / _MINUTE)
        self.at = now

    def wait_s(self, wanted: float) -> float:
        """Seconds until `wanted` fits (an outsized request fits a full bucket); 0: it fits now."""
        missing = min(wanted, self.capacity) - self.level
        if missing <= 0:
            return 0.0
        return missing * _MINUTE / self.capacity if self.capacity else _MINUTE

    @property
    def full_in_s(self) -> float:
        """Seconds until it is full again."""
        return (self.capacity - self.level) * _MINUTE / self.capacity if self.capacity else _MINUTE


@dataclass(frozen=True, slots=True)
class Over:
    """A limit was passed: which one, what it is, and when it frees."""

    name: str
    limit: int
    wait_s: float
    per_day: bool


_PER_MINUTE: Final = {
    "requests": "requests_per_minute",
    "tokens": "tokens_per_minute",
    "input-tokens": "input_tokens_per_minute",
    "output-tokens": "output_tokens_per_minute",
}


@dataclass(slots=True)
class Gauge:
    """The limits of one key on one model, and how far they are used."""

    rule: LimitRule
    buckets: dict[str, Bucket]
    day: str = ""
    requests_today: int = 0
    tokens_today: int = 0

    @classmethod
    def of(cls, rule: LimitRule, now: float) -> Gauge:
        """A fresh gauge: every bucket full."""
        sizes = {name: getattr(rule, attribute) for name, attribute in _PER_MINUTE.items()}
        full = {name: Bucket(size, size, now) for name, size in sizes.items() if size is not None}
        return cls(rule, full, _LONG_AGO)

    def take(self, input_tokens: int, reserved: int, now: float, wall: datetime) -> Over | None:
        """Admit a request with `reserved` tokens for its output, or say which limit it passes."""
        if wall.date().isoformat() != self.day:
            self.day, self.requests_today, self.tokens_today = wall.date().isoformat(), 0, 0
        wanted = _wanted(input_tokens, reserved)
        over = self._over_day(input_tokens, wall) or self._over_minute(wanted, now)
        if over is None:
            for name, bucket in self.buckets.items():
                bucket.level = max(0.0, bucket.level - wanted[name])
            self.requests_today += 1
            self.tokens_today += input_tokens
        return over

    def settle(self, input_tokens: int, reserved: int, output: int) -> None:
        """The reply is known: what was reserved beyond it is free again."""
        held, used = _wanted(input_tokens, reserved), _wanted(input_tokens, output)
        for name, bucket in self.buckets.items():
            surplus = min(held[name], bucket.capacity) - min(used[name], bucket.capacity)
            bucket.level = min(bucket.capacity, bucket.level + surplus)

    def _over_minute(self, wanted: Mapping[str, int], now: float) -> Over | None:
        worst: Over | None = None
        for name, bucket in self.buckets.items():
            bucket.refill(now)
            wait = bucket.wait_s(wanted[name])
            if wait > 0 and (worst is None or wait > worst.wait_s):
                worst = Over(name, int(bucket.capacity), wait, per_day=False)
        return worst

    def _over_day(self, input_tokens: int, wall: datetime) -> Over | None:
        rule = self.rule
        left = _DAY - (wall.hour * 3600 + wall.minute * 60 + wall.second)
        if rule.requests_per_day is not None and self.requests_today >= rule.requests_per_day:
            return Over("requests", rule.requests_per_day, left, per_day=True)
        if rule.tokens_per_day is not None and self.tokens_today + input_tokens > rule.tokens_per_day:
            return Over("tokens", rule.tokens_per_day, left, per_day=True)
        return None


def _wanted(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "requests": 1,
        "tokens": input_tokens + output_tokens,
        "input-tokens": input_tokens,
        "output-tokens": output_tokens,
    }


@dataclass(slots=True)
class Limits:
    """The gauges of all keys and models. A rule for `provider/model` wins over one for `provider`."""

    rules: Mapping[str, LimitRule]
    gauges: dict[tuple[str, str, str], Gauge] = field(default_factory=dict[tuple[str, str, str], Gauge])

    def gauge(self, provider: str, model: str, key: str, now: float) -> Gauge | None:
        """The gauge of a key on a model; None where the scenario sets no limit."""
        if not self.rules:
            return None
        rule = self.rules.get(f"{provider}/{model}") or self.rules.get(provider)
        if rule is None:
            return None
        place = (provider, model, key)
        if place not in self.gauges:
            self.gauges[place] = Gauge.of(rule, now)
        return self.gauges[place]


def headers(family: Family, gauge: Gauge | None, wall: datetime) -> dict[str, str]:
    """The rate-limit headers that go with every reply of that family (Gemini sends none)."""
    if family is Family.GEMINI:
        return {}
    buckets = Gauge.of(_GENEROUS, 0.0).buckets if gauge is None else gauge.buckets
    said: dict[str, str] = {}
    for name, bucket in buckets.items():
        limit, left, reset = int(bucket.capacity), int(bucket.level), bucket.full_in_s
        if family is Family.ANTHROPIC:
            stem = f"anthropic-ratelimit-{name}-"
            said |= {
                stem + "limit": str(limit),
                stem + "remaining": str(left),
                stem + "reset": _instant(wall, reset),
            }
        elif name in ("requests", "tokens"):
            stem = "x-ratelimit-{}-" + name
            said |= {
                stem.format("limit"): str(limit),
                stem.format("remaining"): str(left),
                stem.format("reset"): _duration(reset),
            }
    return said


def _instant(wall: datetime, seconds: float) -> str:
    when = wall.astimezone(UTC) + timedelta(seconds=ceil(seconds))
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `6ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def fault_of(family: Family, over: Over) -> str:
    """The named fault with which a provider answers a request over its limit."""
    match family:
        case Family.OPENAI | Family.ANTHROPIC:
            return f"{family}.rate_limit"
        case Family.GEMINI if over.limit == 0:
            return "gemini.limit_0"
        case Family.GEMINI:
            return "gemini.per_day" if over.per_day else "gemini.per_minute"
