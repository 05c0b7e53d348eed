"""What packing would save of a batch: groups, requests and money."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.pack_size import (
    ASK,
    ITEM_INPUT,
    ITEM_REPLY,
    Judged,
    Packing,
    Sizes,
    packing_of,
    together,
)
from promptkit.engine.pack import Room
from promptkit.providers.prices import Band, Tariff
from promptkit.templates.reference import prompt_digest
from promptkit.types import Message, Prompt, Role, Target, TemplateRef

HERE, THERE = Target("a", "one"), Target("b", "two")
SIZES = Sizes(shared=1000, own=20, reply=30)
PRICE = Tariff((Band(-1, 1, 1, 1, 1, 10, 10),), 1, "test")
ALONE = 1000 + 20 + 10 * 30
DIFFER = "no two rows begin alike under the same tags"


def packing(groups: dict[int, int], judged: Judged, tariff: Tariff | None = PRICE) -> Packing:
    return packing_of(HERE, tariff, SIZES, judged, groups)


def a_pack(rows: int) -> int:
    return 1000 + ASK + rows * (20 + ITEM_INPUT) + 10 * rows * (30 + ITEM_REPLY)


@pytest.mark.parametrize(
    ("groups", "judged", "size", "requests", "packed", "why"),
    [
        ({10: 1}, Judged(5), 5, 2, 2 * a_pack(5), ""),
        ({12: 1}, Judged(5), 5, 3, 2 * a_pack(5) + a_pack(2), ""),
        ({11: 1}, Judged(5), 5, 3, 2 * a_pack(5) + ALONE, ""),
        ({3: 2, 1: 4}, Judged(5), 3, 6, 2 * a_pack(3) + 4 * ALONE, ""),
        ({4: 1}, Judged(1, "it would save too little"), 1, 4, 4 * ALONE, "it would save too little"),
        ({1: 4}, Judged(5), 1, 4, 4 * ALONE, DIFFER),
        ({1: 0, 10: 1}, Judged(5), 5, 2, 2 * a_pack(5), ""),
        ({10: 1}, Judged(2, "", 2), 2, 5, 5 * a_pack(2), ""),
    ],
    ids=["even", "a smaller one left", "one left", "groups", "judged so", "all differ", "empty", "said"],
)  # fmt: skip
def test_rows_fall_into_packs(
    groups: dict[int, int], judged: Judged, size: int, requests: int, packed: int, why: str
) -> None:
    """Each group makes full packs and one of what is left; a row that is left alone costs what it costs alone."""
    rows = sum(count * times for count, times in groups.items())
    told = packing(groups, judged)
    assert told == Packing((HERE,), size, rows, requests, rows * ALONE, packed, why, judged.said)
    assert told.saves_pico == rows * ALONE - packed
    assert told.a_row(told.alone_pico) == ALONE


def test_without_a_price_nothing_is_known() -> None:
    """The requests are known, the money isn't."""
    told = packing({10: 1}, Judged(5, "", 5), None)
    assert (told.requests, told.alone_pico, told.packed_pico, told.saves_pico, told.a_row(None)) == (
        2, None, None, None, None,
    )  # fmt: skip


def test_parts_add_up() -> None:
    """Rows over several routes: money adds up, or is unknown; the reason is told only where all go alone."""
    packs, alone = packing({10: 1}, Judged(5)), packing({4: 1}, Judged(1, "too little"))
    both = together([alone, packs])
    assert both is not None
    assert (both.targets, both.size, both.rows, both.requests, both.why) == ((HERE,), 5, 14, 6, "")
    assert both.saves_pico == packs.saves_pico
    other = packing_of(THERE, None, SIZES, Judged(1, "no price"), {1: 1})
    mixed = together([alone, other])
    assert mixed is not None
    assert (mixed.targets, mixed.why, mixed.saves_pico) == ((HERE, THERE), "too little", None)
    assert together([]) is None


@given(st.dictionaries(st.integers(1, 200), st.integers(1, 50), min_size=1), st.integers(1, 100))
def test_packs_hold_every_row_once(groups: dict[int, int], size: int) -> None:
    """Requests are as many as cutting each group into lots of the size makes."""
    told = packing(groups, Judged(size))
    lots = Counter[int]()
    for count, times in groups.items():
        for _ in range(times):
            lots.update(len(range(at, min(at + size, count))) for at in range(0, count, size))
    assert told.requests == lots.total()
    assert told.rows == sum(rows * times for rows, times in lots.items())
    assert told.packed_pico == sum((ALONE if n == 1 else a_pack(n)) * times for n, times in lots.items())


@pytest.mark.parametrize(
    ("room", "fitting"),
    [(Room(), 10), (Room(output=3 * 132), 3), (Room(window=1000), 6), (Room(window=10), 1)],
)
def test_as_many_as_fit(room: Room, fitting: int) -> None:
    """The window and the output limit bound a pack; one row always goes."""
    messages = (Message(Role.SYSTEM, "s" * 300), Message(Role.USER, "u" * 10))
    prompt = Prompt(messages, prompt_digest(messages), TemplateRef("ad/line", "1"), "1:sha256:ab")
    assert room.most(prompt, 100, 10) == fitting
