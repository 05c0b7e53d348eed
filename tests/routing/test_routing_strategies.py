"""In what order targets are tried, as tables and properties."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.routing.flow import PlannedTarget
from promptkit.routing.plan import EXPLORE, STRATEGIES, Facts
from promptkit.types import Target

A, B, C, D = (Target("p", name) for name in "abcd")
ABC = (PlannedTarget(A), PlannedTarget(B), PlannedTarget(C))


def names(strategy: str, facts: Facts, targets: tuple[PlannedTarget, ...] = ABC) -> str:
    return "".join(planned.target.model for planned in STRATEGIES[strategy](targets, facts))


@pytest.mark.parametrize(
    ("strategy", "facts", "order"),
    [
        ("ordered", Facts(0.5, {A: 9, B: 1}, {A: 9.0, B: 1.0}), "abc"),
        ("cheapest", Facts(cost_pico={A: 3, B: 1, C: 2}), "bca"),
        ("cheapest", Facts(cost_pico={C: 5}), "cab"),  # what has no price comes last, as listed
        ("cheapest", Facts(cost_pico={A: 2, B: 2, C: 0}), "cab"),  # free is known, equal ones stay as listed
        ("cheapest", Facts(), "abc"),
        ("fastest", Facts(0.99, latency_s={A: 3.0, B: 1.0, C: 2.0}), "bca"),
        ("fastest", Facts(0.0, latency_s={A: 3.0, B: 1.0, C: 2.0}), "bca"),  # nothing left to find out
        ("fastest", Facts(EXPLORE, latency_s={C: 2.0}), "cab"),
        ("fastest", Facts(0.0, latency_s={C: 2.0}), "acb"),  # an unknown one has its turn
        ("fastest", Facts(EXPLORE * 0.75, latency_s={C: 2.0}), "bca"),  # and the other one has, too
        ("fastest", Facts(0.0), "abc"),
    ],
)
def test_the_order(strategy: str, facts: Facts, order: str) -> None:
    """What is known decides; what isn't known comes last, as listed, but for a tenth of `fastest`."""
    assert names(strategy, facts) == order


@given(
    st.sampled_from(sorted(STRATEGIES)),
    st.floats(0, 1, exclude_max=True),
    st.lists(st.integers(0, 1_000_000_000), min_size=4, max_size=4),
    st.dictionaries(st.sampled_from([A, B, C, D]), st.integers(0, 100)),
)
def test_no_target_is_lost_or_doubled(
    strategy: str, draw: float, weights: list[int], known: dict[Target, int]
) -> None:
    """Whatever is known and drawn, a strategy only puts the targets in another order."""
    targets = tuple(
        PlannedTarget(target, None, weight) for target, weight in zip((A, B, C, D), weights, strict=True)
    )
    facts = Facts(draw, known, {target: float(value) for target, value in known.items()})
    assert Counter(STRATEGIES[strategy](targets, facts)) == Counter(targets)


def test_weights_are_shares_at_every_place() -> None:
    """The first is drawn by weight, and so is whichever follows it; weight 0 always comes last."""
    dice = random.Random(7)
    targets = (
        PlannedTarget(A, None, 6),
        PlannedTarget(B, None, 3),
        PlannedTarget(C, None, 0),
        PlannedTarget(D, None, 1),
    )
    calls = 20_000
    orders = Counter(names("weighted", Facts(dice.random()), targets) for _ in range(calls))
    assert {order[-1] for order in orders} == {"c"}
    expected = {"abd": 0.6 * 3 / 4, "adb": 0.6 / 4, "bad": 0.3 * 6 / 7, "bda": 0.3 / 7, "dab": 0.1 * 6 / 9}
    for order, share in expected.items():
        assert orders[f"{order}c"] / calls == pytest.approx(share, abs=0.015)


def test_the_edges_of_the_draw() -> None:
    """0 takes the first that has a weight, the largest draw the last."""
    targets = (PlannedTarget(A, None, 0), PlannedTarget(B, None, 2), PlannedTarget(C, None, 1))
    assert names("weighted", Facts(0.0), targets) == "bca"
    assert names("weighted", Facts(1 - 2**-53), targets) == "cba"
