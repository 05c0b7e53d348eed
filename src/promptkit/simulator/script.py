"""The script of faults at work: which rule strikes which request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .scenario import FaultRule
from .text import digest

_SCALE: Final = 2**64


@dataclass(frozen=True, slots=True)
class Sighting:
    """A request as rules see it. `identity` is what the chance is drawn from: prompt and turn.

    `model` and `stream` are None before the body is read.
    """

    provider: str
    key: str | None
    identity: str
    model: str | None = None
    stream: bool | None = None


@dataclass(slots=True)
class _Counted:
    rule: FaultRule
    seen: int = 0
    struck: int = 0

    def strikes(self, sighting: Sighting, seed: int, number: int) -> bool:
        """Count a matching request; whether the rule strikes it."""
        rule = self.rule
        if rule.times is not None and self.struck >= rule.times:
            return False
        self.seen += 1
        if self.seen <= rule.after or (self.seen - rule.after) % rule.every:
            return False
        if rule.probability < 1:
            drawn = digest(seed, "fault", str(number), sighting.identity)
            if int.from_bytes(drawn[:8]) >= rule.probability * _SCALE:
                return False
        self.struck += 1
        return True


class Script:
    """An ordered list of rules; the first that strikes wins, and only it counts as struck."""

    def __init__(self, seed: int, rules: Iterable[FaultRule] = ()) -> None:
        self._seed = seed
        self._rules: list[_Counted] = []
        self.set(rules)

    def set(self, rules: Iterable[FaultRule]) -> None:
        """Replace all rules; their counts start anew."""
        self._rules = [_Counted(rule) for rule in rules]

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The rules, in order."""
        return tuple(each.rule for each in self._rules)

    @property
    def struck(self) -> tuple[int, ...]:
        """How often each rule has struck."""
        return tuple(each.struck for each in self._rules)

    def before_reading(self, sighting: Sighting) -> FaultRule | None:
        """The rule that strikes on the head of a request alone."""
        return self._first(sighting, head=True)

    def strike(self, sighting: Sighting) -> FaultRule | None:
        """The rule that strikes a request that was read."""
        return self._first(sighting, head=False)

    def _first(self, sighting: Sighting, *, head: bool) -> FaultRule | None:
        for number, each in enumerate(self._rules):
            rule = each.rule
            fits = (rule.fault == "wire.reset_before") is head and _matches(rule, sighting)
            if fits and each.strikes(sighting, self._seed, number):
                return rule
        return None


def _matches(rule: FaultRule, sighting: Sighting) -> bool:
    return (
        rule.where in (None, sighting.provider)
        and rule.key in (None, sighting.key)
        and rule.model in (None, sighting.model)
        and rule.stream in (None, sighting.stream)
    )
