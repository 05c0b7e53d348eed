"""How many rows go together in a request: as many as the user says, or as many as pay off."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from promptkit.engine.calls import CallRequest
from promptkit.providers.params import cacheable
from promptkit.providers.prices import Tariff
from promptkit.providers.tokens import estimate_text_tokens
from promptkit.routing.catalog import Catalog
from promptkit.types import Call, Json, Prompt, Target, Usage, dollars

from .estimates import Offer, total

_KEPT: Final = 1_000


_CANNOT: Final = (
    "packing: these rows go alone: packs need a template that ends with its only user message, with no turns of "
    "a conversation and no stop sequence, and a schema whose references lead to its definitions"
)


def tokens_of(prompt: Prompt, schema: Mapping[str, Json] | None) -> tuple[int, int]:
    """About how many tokens of a call others may have, too, and how many are its own."""
    *shared, own = [estimate_text_tokens(message.content) + 4 for message in prompt.messages]
    if schema is not None:
        shared.append(estimate_text_tokens(json.dumps(schema)))
    return sum(shared), own


def sizes_of(call: Call, offer: Offer, catalog: Catalog) -> Sizes:
    """How many tokens rows like this one have at a target; its prompt knows its prefix."""
    shared, own = tokens_of(call.prompt, call.schema)
    cached = cacheable(call.prompt, *catalog.pair(offer.target)) is not None
    return Sizes(shared, own, offer.lengths[1], cached)


def pays(offer: Offer, sizes: Sizes) -> tuple[Size, str]:
    """How many such rows pay off in a request to a target; where none, why, in a few words."""
    if offer.tariff is None:
        return Size(1, 0.0, 0), f"{offer.target} has no price, so nobody knows whether it would save"
    size = choose_size(offer.tariff, sizes)
    if size.rows > 1:
        return size, ""
    return (
        size,
        "the provider's prompt cache saves it already" if sizes.cached else "it would save too little",
    )


class Sizer(Protocol):
    """How many rows go together."""

    @property
    def off(self) -> bool:
        """Whether each row goes alone, whatever it is."""
        ...

    def size(self, key: Hashable, work: CallRequest) -> int:
        """Rows a request, of those that may go together under that key."""
        ...

    def learn(self, key: Hashable, items: int, failed: int) -> None:
        """Of a pack under that key, so many items brought nothing."""
        ...

    def cannot(self) -> None:
        """A row can't go with any other."""
        ...


class Said:
    """As many as the user says."""

    def __init__(self, rows: int, say: Callable[[str], None]) -> None:
        self._rows = rows
        self._say = say
        self._told = False

    @property
    def off(self) -> bool:
        """Whether one row is all that goes into a request."""
        return self._rows == 1

    def size(self, key: Hashable, work: CallRequest) -> int:
        """As said."""
        del key, work
        return self._rows

    def learn(self, key: Hashable, items: int, failed: int) -> None:
        """It stays as it was said."""

    def cannot(self) -> None:
        """Say so, once."""
        if not self._told:
            self._told = True
            self._say(_CANNOT)


@dataclass(slots=True)
class _Tried:
    """What was chosen for rows that may go together, and how it went."""

    chosen: Size
    seen: int = 0
    failed: int = 0
    stopped: bool = False


class Chosen:
    """As many as pay off at the target that is asked first, until failures eat the gain.

    Args:
        catalog: which providers cache prompts.
        offer: what a target charges, and how long its answers are.
        say: tells what was chosen, and why.
    """

    def __init__(
        self, catalog: Catalog, offer: Callable[[Target], Offer], say: Callable[[str], None]
    ) -> None:
        self._catalog = catalog
        self._offer = offer
        self._say = say
        self._tried: dict[Hashable, _Tried] = {}
        self._told: set[str] = set()

    @property
    def off(self) -> bool:
        """That is never known beforehand."""
        return False

    def size(self, key: Hashable, work: CallRequest) -> int:
        """What pays off, by the first row under that key."""
        tried = self._tried.get(key)
        if tried is None:
            if len(self._tried) >= _KEPT:
                self._tried.clear()
            tried = self._tried[key] = _Tried(self._choose(work))
        return 1 if tried.stopped else tried.chosen.rows

    def learn(self, key: Hashable, items: int, failed: int) -> None:
        """Count; stop where it no longer pays."""
        tried = self._tried.get(key)
        if tried is None or tried.stopped:
            return
        tried.seen += items
        tried.failed += failed
        if not tried.chosen.pays(tried.seen, tried.failed):
            tried.stopped = True
            self._tell(
                "stopped",
                f"{tried.failed} of {tried.seen} rows in packs had to be asked for again, which costs more than "
                "packing saves: they go alone from now on",
            )

    def cannot(self) -> None:
        """Nothing was promised."""

    def _choose(self, work: CallRequest) -> Size:
        offer = self._offer(work.plan.targets[0].target)
        size, why = pays(offer, sizes_of(work.call, offer, self._catalog))
        if why:
            self._tell(why, f"{why}: rows go alone")
        else:
            costs = f"about {dollars(round(size.packed_pico))} instead of {dollars(size.alone_pico)}"
            self._tell("packs", f"up to {size.rows} rows a request, so that a row costs {costs}")
        return size

    def _tell(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._say(f"packing: {text}")


ASK: Final = 130
"""Tokens of what introduces the items, and of the schema around their results."""


ITEM_INPUT: Final = 30
"""Tokens that set an item apart: two marks, its id there and in the schema."""


ITEM_REPLY: Final = 16
"""Tokens that name its result."""


MOST: Final = 10
"""More are never packed by themselves: answers get worse with their place in a long list."""


_INPUT_AT_MOST: Final = 16_000


_OUTPUT_AT_MOST: Final = 4_000
"""Tokens of a pack: short rows only."""


_WORTH: Final = 0.1
"""Less than this share of a row's cost isn't worth it."""


_ENOUGH: Final = 0.95
"""A pack that saves so much of what the largest would is large enough."""


_EVIDENCE: Final = 12
"""Items to have seen before failures count."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """About how many tokens a row has: `shared` with all others, of its `own`, and in its reply.

    `cached`: the provider's prompt cache keeps the shared part.
    """

    shared: int
    own: int
    reply: int
    cached: bool = False

    def usage(self, rows: int) -> Usage:
        """The tokens of a request of so many rows, from the second request on."""
        cached = self.shared if self.cached else 0
        if rows == 1:
            return Usage(self.shared + self.own, self.reply, cached)
        return Usage(
            self.shared + ASK + rows * (self.own + ITEM_INPUT), rows * (self.reply + ITEM_REPLY), cached
        )

    @property
    def most(self) -> int:
        """How many rows go together at most."""
        by_input = (_INPUT_AT_MOST - self.shared) // (self.own + ITEM_INPUT)
        return max(1, min(MOST, by_input, _OUTPUT_AT_MOST // (self.reply + ITEM_REPLY)))


@dataclass(frozen=True, slots=True)
class Size:
    """How many `rows` to a request, and about what a row costs so and alone, in pico-USD."""

    rows: int
    packed_pico: float
    alone_pico: int

    @property
    def saved(self) -> float:
        """The share of a row's cost that is saved."""
        return 1 - self.packed_pico / self.alone_pico if self.alone_pico else 0.0

    def pays(self, seen: int, failed: int) -> bool:
        """Whether packing still saves when so many of the items seen have failed.

        An item that fails costs its part of the pack and then a call of its own, so the saving is
        eaten where the share that fails reaches the share that is saved.
        """
        return seen < _EVIDENCE or failed < self.saved * seen


def choose_size(tariff: Tariff, sizes: Sizes) -> Size:
    """The smallest pack that saves nearly all that packing can; 1 row where it saves too little."""
    return _chosen(tariff.pico, sizes)


def _chosen(pico: Callable[[Usage], int], sizes: Sizes) -> Size:
    alone = pico(sizes.usage(1))
    every = [Size(rows, pico(sizes.usage(rows)) / rows, alone) for rows in range(1, sizes.most + 1)]
    best = max(size.saved for size in every)
    if best < _WORTH:
        return every[0]
    return next(size for size in every if size.saved >= best * _ENOUGH)


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
