"""Admission: what a cap lets through, as tables and properties."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.ledger.accounts import Account, Book, refusal
from promptkit.types import Scope


@pytest.mark.parametrize(
    ("account", "ceiling", "admitted", "may_free"),
    [
        (Account(100), 100, True, False),
        (Account(100), 101, False, False),
        (Account(100, spent_pico=60), 40, True, False),
        (Account(100, spent_pico=60), 41, False, False),
        (Account(100, spent_pico=60, reserved_pico=30), 10, True, False),
        (Account(100, spent_pico=60, reserved_pico=30), 11, False, True),
        (Account(100, spent_pico=60, reserved_pico=30), 41, False, False),
        (Account(100, spent_pico=120, over_pico=20), 0, False, False),
        (Account(100, spent_pico=10, stopped_cap_pico=100), 1, False, False),
        (Account(200, spent_pico=10, stopped_cap_pico=100), 1, True, False),
    ],
)
def test_a_hold_fits_under_the_cap_or_is_refused(
    account: Account,
    ceiling: int,
    admitted: bool,  # noqa: FBT001
    may_free: bool,  # noqa: FBT001
) -> None:
    """A hold is admitted while spent + held + ceiling <= cap; waiting helps only if it would fit alone."""
    no = refusal(account, "day", ceiling)
    assert (no is None) is admitted
    assert (no is not None and no.may_free) is may_free


def test_all_scopes_or_nothing() -> None:
    """A hold that one scope refuses is held in none; what waiting can't help is what is told."""
    book = Book(
        {"job": Account(100), "day": Account(50, reserved_pico=50), "month": Account(50, spent_pico=50)}
    )
    no = book.admit((Scope("job", 100), Scope("day", 50), Scope("month", 50)), 10)
    assert no is not None
    assert (no.scope_key, no.may_free) == ("month", False)
    assert book.changed() == {}


def test_a_lowered_cap_refuses_until_it_fits() -> None:
    """A cap lowered below what is taken refuses new holds and lets the old ones settle."""
    book = Book({"day": Account(100, spent_pico=40, reserved_pico=40)})
    scope = (Scope("day", 50),)
    no = book.admit(scope, 10)
    assert no is not None
    assert no.may_free
    assert book.accounts["day"].over_pico == 30
    assert book.settle(("day",), 40, 0) == ()
    assert book.accounts["day"] == Account(50, spent_pico=40)
    assert book.admit(scope, 10) is None


def test_a_bill_above_its_ceiling_stops_the_scope() -> None:
    """A provider that bills above its ceiling is recorded and stops the scope until its cap is raised."""
    book = Book({"day": Account(100, reserved_pico=10)})
    assert book.settle(("day",), 10, 30) == ("day",)
    refused = book.admit((Scope("day", 100),), 1)
    assert refused is not None
    assert refused.stopped
    assert not refused.may_free
    assert book.admit((Scope("day", 101),), 1) is None


def test_each_of_two_caps_is_kept_by_who_has_it_in_force() -> None:
    """Two processes, caps of 100 and 50: the lower one's visits take nothing from the higher one, and add nothing."""
    book = Book({})
    high, low = (Scope("day", 100),), (Scope("day", 50),)
    assert book.admit(high, 60) is None
    assert book.admit(low, 1) is not None
    assert book.admit(high, 41) is not None
    assert book.admit(low, 0) is not None
    assert book.admit(high, 40) is None
    assert book.admit(low, 0) is not None
    assert book.accounts["day"] == Account(50, reserved_pico=100, over_pico=50)
    assert book.settle(("day",), 60, 5, (100,)) == ()
    assert book.accounts["day"] == Account(50, spent_pico=5, reserved_pico=40)
    assert book.admit(low, 5) is None


@pytest.mark.parametrize("other", [50, None])
def test_an_overrun_stops_the_cap_it_was_admitted_under(other: int | None) -> None:
    """Also where a process with a lower cap, or none, was the last to look."""
    book = Book({})
    assert book.admit((Scope("day", 100),), 10) is None
    assert book.admit((Scope("day", other),), 0) is None
    assert book.settle(("day",), 10, 30, (100,)) == ("day",)
    refused = book.admit((Scope("day", 100),), 1)
    assert refused is not None
    assert refused.stopped
    assert book.admit((Scope("day", 101),), 1) is None


def test_an_attempt_without_a_ceiling_counts_and_stops_nothing() -> None:
    """Where no price was known and the user allows it, a known cost still counts."""
    book = Book({"day": Account(100)})
    assert book.admit((Scope("day", 100),), 0) is None
    assert book.settle(("day",), None, 130) == ()
    assert book.accounts["day"] == Account(100, spent_pico=130, over_pico=30)


_steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 60), st.sampled_from([50, 100, 150]), st.booleans()),
    max_size=30,
)


@given(_steps)
@settings(max_examples=150)
def test_the_check_holds_through_everything(steps: list[tuple[int, int, int, bool]]) -> None:
    """Through holds, settlements, overruns and moved caps: spent + held <= cap + over, nothing below 0."""
    book, open_holds, spent = Book({}), list[int](), 0
    for ceiling, charged, cap, settle in steps:
        if settle and open_holds:
            held = open_holds.pop()
            book.settle(("day",), held, charged)
            spent += charged
        else:
            before = book.accounts.get("day")
            if book.admit((Scope("day", cap),), ceiling) is None:
                open_holds.append(ceiling)
                assert before is None or book.accounts["day"].used_pico <= cap
        account = book.accounts.get("day", Account(0))
        assert account.used_pico <= account.cap_pico + account.over_pico
        assert account.over_pico <= max(0, account.used_pico - account.cap_pico)
        assert (account.spent_pico, account.reserved_pico) == (spent, sum(open_holds))
