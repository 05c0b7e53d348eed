"""Rate limits as the providers apply them: buckets that refill, fixed days, and their headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil

from .models import ProviderFamily
from .scenario import LimitRule

_MINUTE_S = 60.0
_DAY_S = 86_400
_GENEROUS = LimitRule(requests_per_minute=30_000, tokens_per_minute=150_000_000)
_PER_MINUTE = {
    "requests": "requests_per_minute",
    "tokens": "tokens_per_minute",
    "input-tokens": "input_tokens_per_minute",
    "output-tokens": "output_tokens_per_minute",
}


@dataclass(slots=True)
class RateLimits:
    """The limits of all keys and models. A rule for `provider/model` takes precedence over `provider`."""

    rules: Mapping[str, LimitRule]
    usages: dict[tuple[str, str, str], LimitUsage] = field(
        default_factory=dict[tuple[str, str, str], "LimitUsage"]
    )

    def usage(self, provider: str, model: str, key: str, now: float) -> LimitUsage | None:
        """Return the usage of a key on a model; None if the scenario sets no limit."""
        rule = self.rules.get(f"{provider}/{model}") or self.rules.get(provider)
        if rule is None:
            return None
        if (provider, model, key) not in self.usages:
            self.usages[provider, model, key] = LimitUsage.of(rule, now)
        return self.usages[provider, model, key]


@dataclass(slots=True)
class LimitUsage:
    """The limits of one key on one model, and how far they are used."""

    rule: LimitRule
    buckets: dict[str, Bucket]
    day: str = "1970-01-01"
    requests_today: int = 0
    tokens_today: int = 0

    @classmethod
    def of(cls, rule: LimitRule, now: float) -> LimitUsage:
        """Return an unused one, with every bucket full."""
        sizes = {name: getattr(rule, attribute) for name, attribute in _PER_MINUTE.items()}
        return cls(rule, {name: Bucket(size, size, now) for name, size in sizes.items() if size is not None})

    def admit(self, input_tokens: int, reserved: int, now: float, wall: datetime) -> LimitExceeded | None:
        """Admit a request with `reserved` tokens for its output, or return the limit that it exceeds."""
        if wall.date().isoformat() != self.day:
            self.day, self.requests_today, self.tokens_today = wall.date().isoformat(), 0, 0
        needed = _amounts(input_tokens, reserved)
        exceeded = self._over_day(input_tokens, wall) or self._over_minute(needed, now)
        if exceeded is None:
            for name, bucket in self.buckets.items():
                bucket.level = max(0.0, bucket.level - needed[name])
            self.requests_today += 1
            self.tokens_today += input_tokens
        return exceeded

    def _over_day(self, input_tokens: int, wall: datetime) -> LimitExceeded | None:
        rule = self.rule
        left_s = _DAY_S - (wall.hour * 3600 + wall.minute * 60 + wall.second)
        if rule.requests_per_day is not None and self.requests_today >= rule.requests_per_day:
            return LimitExceeded("requests", rule.requests_per_day, left_s, per_day=True)
        if rule.tokens_per_day is not None and self.tokens_today + input_tokens > rule.tokens_per_day:
            return LimitExceeded("tokens", rule.tokens_per_day, left_s, per_day=True)
        return None

    def _over_minute(self, needed: Mapping[str, int], now: float) -> LimitExceeded | None:
        """Return the limit with the longest wait."""
        worst: LimitExceeded | None = None
        for name, bucket in self.buckets.items():
            bucket.refill(now)
            wait_s = bucket.wait_s(needed[name])
            if wait_s > 0 and (worst is None or wait_s > worst.wait_s):
                worst = LimitExceeded(name, int(bucket.capacity), wait_s, per_day=False)
        return worst

    def settle(self, input_tokens: int, reserved: int, output: int) -> None:
        """Release what a request reserved beyond its reply."""
        reserved_amounts, used = _amounts(input_tokens, reserved), _amounts(input_tokens, output)
        for name, bucket in self.buckets.items():
            surplus = min(reserved_amounts[name], bucket.capacity) - min(used[name], bucket.capacity)
            bucket.level = min(bucket.capacity, bucket.level + surplus)


def _amounts(input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Return what a request takes from each bucket."""
    return {
        "requests": 1,
        "tokens": input_tokens + output_tokens,
        "input-tokens": input_tokens,
        "output-tokens": output_tokens,
    }


@dataclass(slots=True)
class Bucket:
    """A bucket of up to `capacity`, refilled evenly within a minute. Times are seconds of any clock."""

    capacity: float
    level: float
    at: float

    def refill(self, now: float) -> None:
        """Raise the level to what it is now."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.capacity / _MINUTE_S)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Return the seconds until `amount` fits; 0 if it fits now. Any amount fits into a full bucket."""
        missing = min(amount, self.capacity) - self.level
        if missing <= 0:
            return 0.0
        return missing * _MINUTE_S / self.capacity if self.capacity else _MINUTE_S

    @property
    def full_in_s(self) -> float:
        """Seconds until it is full again."""
        return (self.capacity - self.level) * _MINUTE_S / self.capacity if self.capacity else _MINUTE_S


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """The limit that a request exceeds, and the seconds until it fits."""

    name: str
    limit: int
    wait_s: float
    per_day: bool


def fault_of(family: ProviderFamily, exceeded: LimitExceeded) -> str:
    """Return the named fault with which a provider answers a request over its limit."""
    match family:
        case ProviderFamily.OPENAI | ProviderFamily.ANTHROPIC:
            return f"{family}.rate_limit"
        case ProviderFamily.GEMINI if exceeded.limit == 0:
            return "gemini.limit_0"
        case ProviderFamily.GEMINI:
            return "gemini.per_day" if exceeded.per_day else "gemini.per_minute"


def headers(family: ProviderFamily, usage: LimitUsage | None, wall: datetime) -> dict[str, str]:
    """Return the rate limit headers of every response of a family; Gemini sends none."""
    if family is ProviderFamily.GEMINI:
        return {}
    buckets = (LimitUsage.of(_GENEROUS, 0.0) if usage is None else usage).buckets
    values: dict[str, str] = {}
    for name, bucket in buckets.items():
        limit, left = str(int(bucket.capacity)), str(int(bucket.level))
        if family is ProviderFamily.ANTHROPIC:
            reset = (wall.astimezone(UTC) + timedelta(seconds=ceil(bucket.full_in_s))).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
            stem = f"anthropic-ratelimit-{name}-"
            values |= {f"{stem}limit": limit, f"{stem}remaining": left, f"{stem}reset": reset}
        elif name in ("requests", "tokens"):
            values |= {
                f"x-ratelimit-limit-{name}": limit,
                f"x-ratelimit-remaining-{name}": left,
                f"x-ratelimit-reset-{name}": _duration(bucket.full_in_s),
            }
    return values


def _duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: `6ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
