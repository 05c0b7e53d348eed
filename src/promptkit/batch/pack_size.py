"""How many rows share a request with `--pack auto`, and what packing saves.

A pack pays the common part of its prompts once. In return it adds tokens that separate its items,
and an item that fails is paid twice. Long packs make replies worse, so packs stay short.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptkit.engine.calls import CallRequest
from promptkit.engine.context import Session
from promptkit.providers.params import cacheable
from promptkit.providers.prices import Tariff
from promptkit.providers.tokens import estimate_text_tokens
from promptkit.routing.catalog import Catalog
from promptkit.types import Call, Json, Prompt, Target, Usage, dollars

from .estimates import History, Offer, Offers, total
from .options import Pinned

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger

_MAX_CHOICES = 1_000
"""Choices that are kept in memory."""


class AutoSize:
    """The size that pays off at the first target, until too many items fail.

    Args:
        session: settings, and where notices go.
        pinned: the template and the route of the rows.
        ledger: the lengths of earlier replies.
    """

    def __init__(self, session: Session, pinned: Pinned, ledger: Ledger) -> None:
        self._session = session
        self._route = pinned.route
        self._offers = Offers(session, pinned.template, History(pinned.template, ledger))
        self._choices: dict[Hashable, _Choice] = {}
        self._noticed: set[str] = set()

    def size(self, key: Hashable, request: CallRequest) -> int:
        """Return the rows per request of calls with this key; the first call decides."""
        choice = self._choices.get(key)
        if choice is None:
            if len(self._choices) >= _MAX_CHOICES:
                self._choices.clear()
            choice = self._choices[key] = _Choice(self._choose(request))
        return 1 if choice.stopped else choice.size.rows

    def record(self, key: Hashable, items: int, failed: int) -> None:
        """Count the failed items of a pack; stop packing when it no longer pays."""
        choice = self._choices.get(key)
        if choice is None or choice.stopped:
            return
        choice.items += items
        choice.failed += failed
        if not choice.size.pays(choice.items, choice.failed):
            choice.stopped = True
            self._notice(
                "stopped",
                f"{choice.failed} of {choice.items} rows in packs were sent once more, which costs more than packs "
                "save. Rows are now sent one by one.",
            )

    def _choose(self, request: CallRequest) -> Size:
        offer = self._offers.of(request.plan.targets[0].target, self._route)
        sizes = sizes_of(request.call, offer, self._session.settings.catalog)
        size, reason = size_that_pays(offer, sizes)
        if reason:
            self._notice(reason, f"rows are sent one by one: {reason}")
        else:
            costs = f"about {dollars(round(size.packed_pico))} instead of {dollars(size.single_pico)} per row"
            self._notice("packs", f"up to {size.rows} rows per request, {costs}")
        return size

    def _notice(self, kind: str, text: str) -> None:
        if kind not in self._noticed:
            self._noticed.add(kind)
            self._session.notice(f"packing: {text}")


@dataclass(slots=True)
class _Choice:
    """The size of packs with one key, and how many of their items failed."""

    size: Size
    items: int = 0
    failed: int = 0
    stopped: bool = False


def size_that_pays(offer: Offer, sizes: Sizes) -> tuple[Size, str]:
    """Return the size that pays off at a target, and the reason if it is 1."""
    if offer.tariff is None:
        return Size(1, 0.0, 0), f"{offer.target} has no price, so the saving is unknown"
    size = choose_size(offer.tariff, sizes)
    if size.rows > 1:
        return size, ""
    return size, "the provider's prompt cache saves as much" if sizes.cached else "packs save too little"


def sizes_of(call: Call, offer: Offer, catalog: Catalog) -> Sizes:
    """Return the tokens of rows like this one at a target; the prompt has its prefix."""
    shared, own = tokens_of(call.prompt, call.schema)
    cached = cacheable(call.prompt, *catalog.pair(offer.target)) is not None
    return Sizes(shared, own, offer.lengths[1], cached)


def tokens_of(prompt: Prompt, schema: Mapping[str, Json] | None) -> tuple[int, int]:
    """Estimate the tokens of a call that others may share, and those of its own."""
    *shared, own = [estimate_text_tokens(message.content) + 4 for message in prompt.messages]
    if schema is not None:
        shared.append(estimate_text_tokens(json.dumps(schema)))
    return sum(shared), own


ASK = 130
"""Tokens that introduce the items, and of the schema around their results."""

ITEM_INPUT = 30
"""Tokens that separate an item: two marks, its id there and in the schema."""

ITEM_REPLY = 16
"""Tokens that name the result of an item."""

MOST = 10
"""The largest pack that `auto` makes: replies get worse towards the end of a long list."""

_MAX_INPUT = 16_000
_MAX_OUTPUT = 4_000
"""Tokens of a pack: packs are for short rows."""

_WORTH = 0.1
"""Packing must save at least this share of a row's cost."""

_ENOUGH = 0.95
"""A pack is large enough if it saves this share of the most that packing can save."""

_EVIDENCE = 12
"""Failures count from this number of items on."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The estimated tokens of a row: `shared` with all others, its `own`, and its reply's.

    `cached`: the provider's prompt cache keeps the shared part.
    """

    shared: int
    own: int
    reply: int
    cached: bool = False

    def usage(self, rows: int) -> Usage:
        """Return the tokens of a request of so many rows, from the second request on."""
        cached = self.shared if self.cached else 0
        if rows == 1:
            return Usage(self.shared + self.own, self.reply, cached)
        return Usage(
            self.shared + ASK + rows * (self.own + ITEM_INPUT), rows * (self.reply + ITEM_REPLY), cached
        )

    @property
    def most(self) -> int:
        """The greatest number of rows per request."""
        by_input = (_MAX_INPUT - self.shared) // (self.own + ITEM_INPUT)
        return max(1, min(MOST, by_input, _MAX_OUTPUT // (self.reply + ITEM_REPLY)))


@dataclass(frozen=True, slots=True)
class Size:
    """A number of rows per request, and the estimated cost of a row in a pack and single, in pico-USD."""

    rows: int
    packed_pico: float
    single_pico: int

    @property
    def saved(self) -> float:
        """The share of a row's cost that packing saves."""
        return 1 - self.packed_pico / self.single_pico if self.single_pico else 0.0

    def pays(self, items: int, failed: int) -> bool:
        """Return whether packing still saves if so many of the items failed.

        A failed item costs its part of the pack and then a call of its own. Nothing is saved once the
        share of failed items reaches the share that packing saves.
        """
        return items < _EVIDENCE or failed < self.saved * items


def choose_size(tariff: Tariff, sizes: Sizes) -> Size:
    """Return the smallest pack that saves nearly all that packing can; 1 row if that is too little."""
    return _chosen(tariff.pico, sizes)


def _chosen(pico: Callable[[Usage], int], sizes: Sizes) -> Size:
    single = pico(sizes.usage(1))
    every = [Size(rows, pico(sizes.usage(rows)) / rows, single) for rows in range(1, sizes.most + 1)]
    best = max(size.saved for size in every)
    if best < _WORTH:
        return every[0]
    return next(size for size in every if size.saved >= best * _ENOUGH)


_ALL_DIFFER = "no two rows with the same tags begin alike"


@dataclass(frozen=True, slots=True)
class Packing:
    """The expected cost of a batch with and without packs, in pico-USD; None if a price is unknown.

    Attributes:
        targets: the first targets.
        size: up to so many rows per request; 1: no packs.
        rows: the rows of the batch.
        requests: the requests with packs.
        single_pico: the cost without packs.
        packed_pico: the cost with packs.
        reason: why there are no packs; empty if there are.
        requested: the user's number of rows per request; None if promptkit chooses.
    """

    targets: tuple[Target, ...]
    size: int
    rows: int
    requests: int
    single_pico: int | None
    packed_pico: int | None
    reason: str = ""
    requested: int | None = None

    @property
    def saves_pico(self) -> int | None:
        """What packing saves; below 0 if it costs more."""
        if self.single_pico is None or self.packed_pico is None:
            return None
        return self.single_pico - self.packed_pico

    def per_row(self, pico: int | None) -> int | None:
        """Return a cost of all rows per row."""
        return None if pico is None else round(pico / self.rows)


def packing_of(
    offer: Offer,
    sizes: Sizes,
    groups: Mapping[int, int],
    *,
    size: int,
    reason: str = "",
    requested: int | None = None,
) -> Packing:
    """Return what packing saves of rows with the same targets and caps.

    Args:
        offer: the first target.
        sizes: the tokens of an average row.
        groups: the number of groups by their number of rows; the rows of a group may share a request.
        size: rows per request.
        reason: why it is 1.
        requested: the user's number.
    """
    rows = sum(count * groups_of for count, groups_of in groups.items())
    packs: dict[int, int] = {}
    for count, groups_of in groups.items():
        full, rest = divmod(count, size)
        packs[size] = packs.get(size, 0) + full * groups_of
        packs[rest] = packs.get(rest, 0) + (groups_of if rest else 0)
    packs = {count: number for count, number in packs.items() if number}
    largest = max(packs, default=1)
    single = packed = None
    if offer.tariff is not None:
        single = rows * offer.tariff.pico(sizes.usage(1))
        packed = sum(number * offer.tariff.pico(sizes.usage(count)) for count, number in packs.items())
    reason = reason or (_ALL_DIFFER if largest == 1 and size > 1 else "")
    return Packing((offer.target,), largest, rows, sum(packs.values()), single, packed, reason, requested)


def together(parts: Sequence[Packing]) -> Packing | None:
    """Return what packing saves of all rows; None if there are none."""
    if not parts:
        return None
    size = max(part.size for part in parts)
    return Packing(
        tuple(dict.fromkeys(target for part in parts for target in part.targets)),
        size,
        sum(part.rows for part in parts),
        sum(part.requests for part in parts),
        total([part.single_pico for part in parts]),
        total([part.packed_pico for part in parts]),
        parts[0].reason if size == 1 else "",
        parts[0].requested,
    )
