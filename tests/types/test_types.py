"""The words that carry a little logic."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit._util.clock import seconds_of, us_of
from promptkit._util.durations import read_duration_s
from promptkit._util.shares import WHOLE, shares
from promptkit._util.text import shortened
from promptkit.types import (
    Attempt,
    AttemptState,
    Cost,
    Reply,
    Status,
    Target,
    TemplateRef,
    Usage,
    Variable,
    dollars,
    sum_or_none,
    usd,
)

COUNTS = st.integers(min_value=0, max_value=10**6)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


@given(st.integers(min_value=-(2**63), max_value=2**63))
def test_money_turns_into_dollars_exactly(pico: int) -> None:
    """No digit is lost in whatever the ledger can hold."""
    assert usd(pico) * 10**12 == pico
    assert Cost(pico, "test").usd == usd(pico)


def test_references_and_targets_read_as_they_are_written() -> None:
    """As the user types them."""
    assert str(TemplateRef("ugc/script")) == "ugc/script"
    assert str(TemplateRef("ugc/script", "2")) == "ugc/script@2"
    assert str(Target("openrouter", "meta/llama")) == "openrouter/meta/llama"


def test_a_variable_without_default_is_required() -> None:
    """An empty string is a default; None is none."""
    assert Variable("brand").required
    assert not Variable("note", default="").required


def test_an_unknown_cost_is_none_in_dollars_too() -> None:
    """Never 0."""
    reply = Reply(
        id="0000000000001",
        text="",
        status=Status.OK,
        target=Target("a", "b"),
        served_model=None,
        ref=TemplateRef("x"),
        template_digest="",
        prompt_digest="",
        usage=None,
        cost_pico=None,
        charged_pico=2_500_000,
        latency_s=0.0,
        attempts=(),
        tags={},
    )
    assert reply.cost is None
    assert reply.charged == Decimal("0.0000025")


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (420_000_000, "$0.00042"),
        (500_000_000_000, "$0.50"),
        (1, "<$0.000001"),
        (1_204_500_000_000_000, "$1,204.50"),
    ],
)
def test_money_is_read_as_people_write_it(pico: int | None, text: str) -> None:
    """Cents from a dollar on, below it as many digits as it takes; too little is said to be little."""
    assert dollars(pico) == text


@given(USAGES, st.lists(st.integers(min_value=0, max_value=100), min_size=1, max_size=5))
def test_parts_of_a_usage_add_up_to_it(usage: Usage, weights: list[int]) -> None:
    """Each count separately."""
    parts = [usage.part(share) for share in shares(weights)]
    assert sum(parts[1:], parts[0]) == usage


@pytest.mark.parametrize("known", [True, False])
def test_parts_of_an_attempt_add_up_to_it(known: bool) -> None:  # noqa: FBT001 - a parameter
    """Tokens, cost and charge; what is unknown stays unknown in each part."""
    usage, cost = (Usage(7, 3), Cost(101, "test", cache_saved_pico=-7)) if known else (None, None)
    target = Target("a", "b")
    attempt = Attempt(1, target, AttemptState.OK, None, "", usage, cost, charged_pico=103, latency_s=0.5)
    parts = [attempt.part(share) for share in shares([2, 1, 1])]
    assert sum(part.charged_pico for part in parts) == 103
    assert sum_or_none(part.cost.pico if part.cost else None for part in parts) == (101 if known else None)
    assert [part.usage is None for part in parts] == [not known] * 3
    assert attempt.part(WHOLE) == attempt


@pytest.mark.parametrize(("picos", "total"), [([], 0), ([1, 2], 3), ([1, None, 2], None)])
def test_one_unknown_amount_makes_the_sum_unknown(picos: list[int | None], total: int | None) -> None:
    """Never a sum of the known ones alone."""
    assert sum_or_none(picos) == total


def test_seconds_turn_into_microseconds_and_back() -> None:
    """Rounded down."""
    assert us_of(1.5000019) == 1_500_001
    assert seconds_of(1_500_000) == 1.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("12 h", 43_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("7", None),
        ("d", None),
    ],
)
def test_durations_are_a_number_and_a_unit(text: str, seconds: int | None) -> None:
    """Anything else is none."""
    assert read_duration_s(text) == seconds


@pytest.mark.parametrize(("text", "short"), [("abcd", "abcd"), ("abcde", "abc…")])
def test_a_long_text_is_cut_with_an_ellipsis(text: str, short: str) -> None:
    """The ellipsis is within the limit."""
    assert shortened(text, 4) == short
