"""The outages that are played: data, made for the providers of a route. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

HINT_S: Final = 60.0
"""How long a throttled provider asks to be left alone; then it answers."""


SLOW_S: Final = 20.0
"""How late the first byte of a slow provider comes."""


ALL_S: Final = 300.0
"""How long all providers at once are gone."""


WELL: Final = "well"


STREAM: Final = "stream"
"""The kind whose rows are streamed, as `run --stream` does, each a call of its own."""


ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Player:
    """A provider that the simulator plays; `family` is whose errors it answers with."""

    name: str
    family: str

    def fault(self, own: str, plain: str) -> str:
        """The family's own fault; a plain status under a name that the simulator takes for another family's."""
        speaks = self.name if self.name in _FAMILIES else "openai"
        return f"{self.family}.{own}" if speaks == self.family else plain


_FAMILIES: Final = ("openai", "anthropic", "gemini")


@dataclass(frozen=True, slots=True)
class Outage:
    """What goes wrong: `gone` providers refuse connections, `faults` are rules for the simulator.

    `kind` is the part of the name before the colon; `ends_s` is when all is well again, None: it
    stays so.
    """

    name: str
    what: str
    gone: tuple[str, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    ends_s: float | None = None

    @property
    def kind(self) -> str:
        """What sort of outage it is."""
        return self.name.partition(":")[0]

    @property
    def struck(self) -> tuple[str, ...]:
        """The providers that it strikes."""
        return self.gone or tuple(rule["provider"] for rule in self.faults)


def outages(players: Sequence[Player]) -> tuple[Outage, ...]:
    """All that is played for a route with these providers, beginning with a day when all is well."""
    names = tuple(player.name for player in players)
    alone = [make(player) for player in players for make in _ALONE]
    pairs = [Outage(f"down:{a}+{b}", f"{a} and {b} are down", (a, b)) for a, b in combinations(names, 2)]
    whole = Outage(ALL, f"every provider is down for {ALL_S / 60:.0f} minutes", names, ends_s=ALL_S)
    last = [pair for pair in pairs if pair.gone != names]
    return (Outage(WELL, "all is well"), *alone, *last, whole)


def chosen(all_: Sequence[Outage], names: Sequence[str]) -> Iterator[Outage]:
    """The outages of these names or kinds, in their order; all of them where nothing is named."""
    return (one for one in all_ if not names or one.name in names or one.kind in names)


def _down(player: Player) -> Outage:
    return Outage(f"down:{player.name}", f"{player.name} is down", (player.name,))


def _slow(player: Player) -> Outage:
    rule = _rule(player, "wire.slow_first_byte", seconds=SLOW_S)
    return Outage(f"slow:{player.name}", f"{player.name} takes {SLOW_S:.0f} s to answer", faults=(rule,))


def _silent(player: Player) -> Outage:
    what = f"{player.name} takes requests and never answers"
    return Outage(f"silent:{player.name}", what, faults=(_rule(player, "wire.stall"),))


def _throttled(player: Player) -> Outage:
    own = "per_minute" if player.family == "gemini" else "rate_limit"
    rule = _rule(player, player.fault(own, "http.429"), retry_after_s=HINT_S)
    what = f"{player.name} asks to be left alone for {HINT_S:.0f} s"
    return Outage(f"throttled:{player.name}", what, faults=(rule,), ends_s=HINT_S)


def _credit(player: Player) -> Outage:
    own = {"openai": "insufficient_quota", "anthropic": "credit_400", "gemini": "failed_precondition"}
    rule = _rule(player, player.fault(own[player.family], "http.402"))
    return Outage(f"credit:{player.name}", f"{player.name} is out of credit", faults=(rule,))


def _cut(player: Player) -> Outage:
    rule = _rule(player, "wire.cut_body", billed=True)
    what = f"{player.name} cuts every reply short, and bills it"
    return Outage(f"cut:{player.name}", what, faults=(rule,))


def _rule(player: Player, fault: str, **more: Any) -> Mapping[str, Any]:
    return {"fault": fault, "provider": player.name, **more}


def _stream(player: Player) -> Outage:
    # After the first word nothing can follow: what there is to rehearse is a break before it.
    rule = _rule(player, "wire.cut_stream", at=0.0, billed=True)
    what = f"{player.name} cuts every stream before its first word, and bills it"
    return Outage(f"{STREAM}:{player.name}", what, faults=(rule,))


_ALONE: Final[tuple[Callable[[Player], Outage], ...]] = (
    _down,
    _slow,
    _silent,
    _throttled,
    _credit,
    _cut,
    _stream,
)
