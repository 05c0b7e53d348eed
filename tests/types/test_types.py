"""The words that carry a little logic."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.types import Cost, Reply, Status, Target, TemplateRef, Variable, dollars, usd


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
        id=1,
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
