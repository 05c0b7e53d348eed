"""What packing would save of a batch, before anything is sent.

Only rows that begin alike under the same tags share a request, so what a batch saves depends on
how they fall into groups: a group that isn't a multiple of the pack's size leaves a smaller pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptkit.pricing.rates import Tariff
from promptkit.types import Target

from .figures import total
from .pack_size import Sizes

_ALL_DIFFER = "no two rows begin alike under the same tags"


@dataclass(frozen=True, slots=True)
class Packing:
    """What a batch costs alone and packed: expected, in pico-USD, None where a price is unknown.

    Attributes:
        targets: those that are asked first.
        size: up to so many rows a request; 1: each goes alone.
        rows: of the batch.
        requests: that they make.
        alone_pico: what all rows cost, each in a request of its own.
        packed_pico: what they cost in packs.
        why: why they go alone, in a few words; empty where they don't.
        said: the user's own number of rows a request; None where what pays off is chosen.
    """

    targets: tuple[Target, ...]
    size: int
    rows: int
    requests: int
    alone_pico: int | None
    packed_pico: int | None
    why: str = ""
    said: int | None = None

    @property
    def saves_pico(self) -> int | None:
        """What packing saves; below 0 where it costs more."""
        if self.alone_pico is None or self.packed_pico is None:
            return None
        return self.alone_pico - self.packed_pico

    def a_row(self, pico: int | None) -> int | None:
        """A cost of all, as one row's."""
        return None if pico is None else round(pico / self.rows)


@dataclass(frozen=True, slots=True)
class Judged:
    """How many rows go together in a request; `why` is why they don't, in a few words.

    `said` is the user's own number, None where what pays off is chosen.
    """

    size: int
    why: str = ""
    said: int | None = None


def packing_of(
    target: Target, tariff: Tariff | None, sizes: Sizes, judged: Judged, groups: Mapping[int, int]
) -> Packing:
    """What packing saves of rows that fare alike.

    Args:
        target: is asked first.
        tariff: its price; None: unknown.
        sizes: of a row, on the average.
        judged: how many go together.
        groups: how many groups there are of so many rows; each holds rows that may share a request.
    """
    rows = sum(count * times for count, times in groups.items())
    lots: dict[int, int] = {}
    for count, times in groups.items():
        full, left = divmod(count, judged.size)
        lots[judged.size] = lots.get(judged.size, 0) + full * times
        lots[left] = lots.get(left, 0) + (times if left else 0)
    largest = max((lot for lot, times in lots.items() if times), default=1)
    alone = packed = None
    if tariff is not None:
        alone = rows * tariff.pico(sizes.usage(1))
        packed = sum(times * tariff.pico(sizes.usage(lot)) for lot, times in lots.items() if times)
    why = judged.why or (_ALL_DIFFER if largest == 1 and judged.size > 1 else "")
    return Packing((target,), largest, rows, sum(lots.values()), alone, packed, why, judged.said)


def together(parts: Sequence[Packing]) -> Packing | None:
    """What packing saves of all rows; None where there are none."""
    if not parts:
        return None
    size = max(part.size for part in parts)
    return Packing(
        tuple(dict.fromkeys(target for part in parts for target in part.targets)),
        size,
        sum(part.rows for part in parts),
        sum(part.requests for part in parts),
        total([part.alone_pico for part in parts]),
        total([part.packed_pico for part in parts]),
        parts[0].why if size == 1 else "",
        parts[0].said,
    )
