"""The outages that the drill simulates: data, made for the providers of a route. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

HINT_S = 60.0
"""The Retry-After of a throttled provider, which replies again after it."""
SLOW_S = 20.0
"""The delay of a slow provider's first byte."""
ALL_S = 300.0
"""How long all providers are down at once."""
WELL = "well"
ALL = "all"
STREAM = "stream"
"""The kind whose rows are streamed, each as a call of its own, as `run --stream` does."""
_FAMILIES = ("openai", "anthropic", "gemini")


@dataclass(frozen=True, slots=True)
class SimulatedProvider:
    """A provider that the simulator imitates; `family` decides its wire format and its errors."""

    name: str
    family: str

    def fault(self, own: str, plain: str) -> str:
        """Return the family's own fault, or a plain status if the simulator gives that name another family."""
        simulated = self.name if self.name in _FAMILIES else "openai"
        return f"{self.family}.{own}" if simulated == self.family else plain


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage: `down` providers refuse connections, `faults` are rules for the simulator.

    `ends_s` is when it ends, None for never.
    """

    name: str
    description: str
    down: tuple[str, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    ends_s: float | None = None

    @property
    def kind(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]

    @property
    def affected(self) -> tuple[str, ...]:
        """The providers that it affects."""
        return self.down or tuple(rule["provider"] for rule in self.faults)


def outages(providers: Sequence[SimulatedProvider]) -> tuple[Outage, ...]:
    """Return all outages for a route with these providers; the first is a day without any."""
    names = tuple(provider.name for provider in providers)
    single = [make(provider) for provider in providers for make in _OF_ONE_PROVIDER]
    pairs = [Outage(f"down:{a}+{b}", f"{a} and {b} are down", (a, b)) for a, b in combinations(names, 2)]
    everything = Outage(ALL, f"every provider is down for {ALL_S / 60:.0f} minutes", names, ends_s=ALL_S)
    return (
        Outage(WELL, "no outage"),
        *single,
        *(pair for pair in pairs if pair.down != names),
        everything,
    )


def select(outages: Sequence[Outage], names: Sequence[str]) -> Iterator[Outage]:
    """Yield the outages of these names or kinds, in their order; all of them without names."""
    return (each for each in outages if not names or each.name in names or each.kind in names)


def _down(provider: SimulatedProvider) -> Outage:
    return Outage(f"down:{provider.name}", f"{provider.name} is down", (provider.name,))


def _slow(provider: SimulatedProvider) -> Outage:
    rule = _rule(provider, "wire.slow_first_byte", seconds=SLOW_S)
    return Outage(
        f"slow:{provider.name}", f"the first byte of {provider.name} is {SLOW_S:.0f} s late", faults=(rule,)
    )


def _silent(provider: SimulatedProvider) -> Outage:
    description = f"{provider.name} accepts requests and never replies"
    return Outage(f"silent:{provider.name}", description, faults=(_rule(provider, "wire.stall"),))


def _throttled(provider: SimulatedProvider) -> Outage:
    own = "per_minute" if provider.family == "gemini" else "rate_limit"
    rule = _rule(provider, provider.fault(own, "http.429"), retry_after_s=HINT_S)
    description = f"{provider.name} throttles for {HINT_S:.0f} s, with a retry-after hint"
    return Outage(f"throttled:{provider.name}", description, faults=(rule,), ends_s=HINT_S)


def _credit(provider: SimulatedProvider) -> Outage:
    own = {"openai": "insufficient_quota", "anthropic": "credit_400", "gemini": "failed_precondition"}
    rule = _rule(provider, provider.fault(own[provider.family], "http.402"))
    return Outage(f"credit:{provider.name}", f"{provider.name} is out of credit", faults=(rule,))


def _cut(provider: SimulatedProvider) -> Outage:
    rule = _rule(provider, "wire.cut_body", billed=True)
    return Outage(
        f"cut:{provider.name}", f"{provider.name} cuts every reply short, and bills it", faults=(rule,)
    )


def _stream(provider: SimulatedProvider) -> Outage:
    # After the first word a failover is impossible, so the cut comes before it.
    rule = _rule(provider, "wire.cut_stream", at=0.0, billed=True)
    description = f"{provider.name} cuts every stream before its first word, and bills it"
    return Outage(f"{STREAM}:{provider.name}", description, faults=(rule,))


def _rule(provider: SimulatedProvider, fault: str, **more: Any) -> Mapping[str, Any]:
    return {"fault": fault, "provider": provider.name, **more}


_OF_ONE_PROVIDER: tuple[Callable[[SimulatedProvider], Outage], ...] = (
    _down,
    _slow,
    _silent,
    _throttled,
    _credit,
    _cut,
    _stream,
)
