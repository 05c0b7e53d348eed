"""How many rows go together in a request: as many as the user says, or as many as pay off."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from promptkit.adapters import cacheable
from promptkit.batch.figures import Offer
from promptkit.batch.pack_size import Size, Sizes, choose_size
from promptkit.catalog import Catalog
from promptkit.engine import Work
from promptkit.tokens import estimate_text_tokens
from promptkit.types import Call, Json, Prompt, Target, dollars

_KEPT: Final = 1_000
_CANNOT: Final = (
    "packing: these rows go alone: packs need a skeleton that ends with its only user message, with no turns of "
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

    def size(self, key: Hashable, work: Work) -> int:
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

    def size(self, key: Hashable, work: Work) -> int:
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

    def size(self, key: Hashable, work: Work) -> int:
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

    def _choose(self, work: Work) -> Size:
        offer = self._offer(work.plan.hops[0].target)
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
