"""Ids: time-ordered, unique within a process, and readable."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.types.ids import IdMaker, id_range, read_id, show_id

BITS = st.integers(min_value=0, max_value=2**63 - 1)


@given(BITS)
def test_an_id_survives_being_shown(number: int) -> None:
    """Thirteen characters, and back, whatever the case."""
    text = show_id(number)
    assert len(text) == 13
    assert read_id(text) == number
    assert read_id(text.upper()) == number


@given(st.tuples(BITS, BITS))
def test_the_text_sorts_as_the_number(pair: tuple[int, int]) -> None:
    """So a listing by id is a listing by time."""
    low, high = sorted(pair)
    assert show_id(low) <= show_id(high)


@pytest.mark.parametrize("text", ["", "short", "0" * 14, "0000000000000i", "000000000000u", "zzzzzzzzzzzzz"])
def test_what_is_no_id_is_refused(text: str) -> None:
    """Wrong length, a letter outside the alphabet, or more than 63 bits."""
    with pytest.raises(ValueError, match="not an id"):
        read_id(text)


@given(BITS, st.integers(min_value=1, max_value=13))
def test_a_beginning_stands_for_a_range(number: int, length: int) -> None:
    """All ids that begin so, and no others: so a short beginning can be looked up."""
    beginning = show_id(number)[:length]
    low, high = id_range(beginning)
    assert low <= number <= high
    assert show_id(low) == beginning.ljust(13, "0")
    assert high - low == 32 ** (13 - length) - 1


@pytest.mark.parametrize("text", ["", "u", "0" * 14])
def test_no_id_begins_so(text: str) -> None:
    """Nothing, a letter outside the alphabet, or too much."""
    with pytest.raises(ValueError, match="not an id"):
        id_range(text)


@given(st.lists(st.integers(min_value=0, max_value=2**42 - 2), min_size=2, max_size=200))
def test_ids_only_grow(times: list[int]) -> None:
    """Even when the clock stands still or steps back; and they fit 63 bits."""
    clock = iter(times)
    make = IdMaker(lambda: next(clock), random.Random(7).getrandbits)
    made = [make() for _ in times]
    assert made == sorted(set(made))
    assert max(made) < 2**63


def test_an_id_begins_with_its_time() -> None:
    """The upper 42 bits are the milliseconds."""
    assert IdMaker(lambda: 1_795_000_000_000, lambda _: 5)() >> 21 == 1_795_000_000_000
