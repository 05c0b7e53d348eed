"""What packing would save of a batch: groups, requests and money."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.estimates import Offer
from promptkit.batch.pack_size import (
    ASK,
    ITEM_INPUT,
    ITEM_REPLY,
    Packing,
    Sizes,
    packing_of,
    together,
)
from promptkit.engine.pack import PackLimits
from promptkit.providers.prices import Band, Tariff
from promptkit.templates.reference import prompt_digest
from promptkit.types import Message, Prompt, Role, Target, TemplateRef

HERE, THERE = Target("a", "one"), Target("b", "two")
SIZES = Sizes(shared=1000, own=20, reply=30)
PRICE = Tariff((Band(-1, 1, 1, 1, 1, 10, 10),), 1, "test")
ALONE = 1000 + 20 + 10 * 30
DIFFER = "no two rows with the same tags begin alike"


def packing(
    groups: dict[int, int],
    size: int,
    reason: str = "",
    requested: int | None = None,
    *,
    offer: Offer = Offer(HERE, PRICE, 100),  # noqa: B008 - frozen
) -> Packing:
    return packing_of(offer, SIZES, groups, size=size, reason=reason, requested=requested)


def a_pack(rows: int) -> int:
    return 1000 + ASK + rows * (20 + ITEM_INPUT) + 10 * rows * (30 + ITEM_REPLY)


@pytest.mark.parametrize(
    ("groups", "choice", "size", "requests", "packed", "reason"),
    [
        ({10: 1}, (5,), 5, 2, 2 * a_pack(5), ""),
        ({12: 1}, (5,), 5, 3, 2 * a_pack(5) + a_pack(2), ""),
        ({11: 1}, (5,), 5, 3, 2 * a_pack(5) + ALONE, ""),
        ({3: 2, 1: 4}, (5,), 3, 6, 2 * a_pack(3) + 4 * ALONE, ""),
        ({4: 1}, (1, "packs save too little"), 1, 4, 4 * ALONE, "packs save too little"),
        ({1: 4}, (5,), 1, 4, 4 * ALONE, DIFFER),
        ({1: 0, 10: 1}, (5,), 5, 2, 2 * a_pack(5), ""),
        ({10: 1}, (2, "", 2), 2, 5, 5 * a_pack(2), ""),
    ],
    ids=["even", "a smaller one left", "one left", "groups", "judged so", "all differ", "empty", "said"],
)  # fmt: skip
def test_rows_fall_into_packs(
    groups: dict[int, int], choice: tuple[Any, ...], size: int, requests: int, packed: int, reason: str
) -> None:
    """Each group makes full packs and one of what is left; a row that is left alone costs what it costs alone."""
    rows = sum(count * times for count, times in groups.items())
    told = packing(groups, *choice)
    assert told == Packing(
        (HERE,), size, rows, requests, rows * ALONE, packed, reason, choice[2] if len(choice) == 3 else None
    )
    assert told.saves_pico == rows * ALONE - packed
    assert told.per_row(told.single_pico) == ALONE


def test_without_a_price_nothing_is_known() -> None:
    """The requests are known, the money isn't."""
    told = packing({10: 1}, 5, "", 5, offer=Offer(HERE, None, 100))
    assert (told.requests, told.single_pico, told.packed_pico, told.saves_pico, told.per_row(None)) == (
        2, None, None, None, None,
    )  # fmt: skip


def test_parts_add_up() -> None:
    """Rows over several routes: money adds up, or is unknown; the reason is told only where all go alone."""
    packs, alone = packing({10: 1}, 5), packing({4: 1}, 1, "too little")
    both = together([alone, packs])
    assert both is not None
    assert (both.targets, both.size, both.rows, both.requests, both.reason) == ((HERE,), 5, 14, 6, "")
    assert both.saves_pico == packs.saves_pico
    other = packing({1: 1}, 1, "no price", offer=Offer(THERE, None, 100))
    mixed = together([alone, other])
    assert mixed is not None
    assert (mixed.targets, mixed.reason, mixed.saves_pico) == ((HERE, THERE), "too little", None)
    assert together([]) is None


@given(st.dictionaries(st.integers(1, 200), st.integers(1, 50), min_size=1), st.integers(1, 100))
def test_packs_hold_every_row_once(groups: dict[int, int], size: int) -> None:
    """Requests are as many as cutting each group into packs of the size makes."""
    told = packing(groups, size)
    packs = Counter[int]()
    for count, times in groups.items():
        for _ in range(times):
            packs.update(len(range(at, min(at + size, count))) for at in range(0, count, size))
    assert told.requests == packs.total()
    assert told.rows == sum(rows * times for rows, times in packs.items())
    assert told.packed_pico == sum((ALONE if n == 1 else a_pack(n)) * times for n, times in packs.items())


@pytest.mark.parametrize(
    ("room", "fitting"),
    [
        (PackLimits(), 10),
        (PackLimits(output=3 * 132), 3),
        (PackLimits(window=1000), 6),
        (PackLimits(window=10), 1),
    ],
)
def test_as_many_as_fit(room: PackLimits, fitting: int) -> None:
    """The window and the output limit bound a pack; one row always goes."""
    messages = (Message(Role.SYSTEM, "s" * 300), Message(Role.USER, "u" * 10))
    prompt = Prompt(messages, prompt_digest(messages), TemplateRef("ad/line", "1"), "1:sha256:ab")
    assert room.most(prompt, 100, 10) == fitting
