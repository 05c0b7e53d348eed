"""docs/routing.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from promptkit.routing import flow, health, limits
from promptkit.routing.faults import ACTIONS, Action
from promptkit.types import Fault

PAGE = (Path(__file__).parents[2] / "docs/routing.md").read_text("utf-8")


def row(fault: Fault, action: Action) -> str:
    """A fault's line of the table."""
    tries = {0: "no", 1: "once"}.get(action.retries, f"{action.retries} times")
    tries += ", as a repair" if action.repair else ""
    then = {"stop": "stop", "next": "next target"}[action.then]
    wider = " with a larger window" if action.larger_window else ""
    closes = f"the {action.opens} " if action.opens else ""
    return f"| {fault} | {tries} | {then}{wider} | {closes}|\n"


def test_the_table_of_faults_is_that_of_the_code() -> None:
    """Every fault, in the code's order."""
    assert "".join(row(fault, action) for fault, action in ACTIONS.items()) in PAGE


def test_the_numbers_are_those_of_the_code() -> None:
    """Times and counts as the page has them."""
    assert (health.STREAK, health.SAMPLE, health.RATIO, health.WINDOW_S) == (5, 20, 0.5, 60)
    assert (health.COOLDOWN_S, health.MAX_COOLDOWN_S, health.THROTTLE_S, health.PROBE_S) == (15, 240, 5, 30)
    assert (health.QUOTA_S, health.AUTH_S, health.GONE_S) == (3600, 3600, 6 * 3600)
    assert (flow.PACE_S, flow.SPREAD_S, limits.LEASE_S, limits.BURST_S) == (5, 2, 2, 2)
    assert [flow.backoff_s(tries) for tries in (1, 2, 3, 9)] == [0.5, 1, 2, 20]
