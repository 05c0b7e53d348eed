"""What was counted, whether that is clean, and what to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promptkit.reports.drill_outages import Outage, SimulatedProvider, outages
from promptkit.reports.drill_results import (
    OutageCounts,
    OutageResult,
    advice,
    failed_checks,
    hints_ignored,
    notes,
    paid_twice,
)
from promptkit.reports.drill_setup import DrillFacts
from promptkit.types import Route, Target

CLEAN = OutageCounts(rows=10, replied=10, requests=12, first_reply_s=0.5, seconds=3)
PLAYERS = (
    SimulatedProvider("openai", "openai"),
    SimulatedProvider("anthropic", "anthropic"),
    SimulatedProvider("gemini", "gemini"),
)
ROUTE = Route("default", tuple(Target(player.name, "m") for player in PLAYERS))
FACTS = DrillFacts(
    ROUTE, PLAYERS, (), dict.fromkeys(("openai", "anthropic", "gemini"), 300.0), 10, "[routes.default]"
)
OUTAGES = {outage.name: outage for outage in outages(PLAYERS)}


def note(second: float, hint_s: float | None = None, provider: str = "openai") -> dict[str, Any]:
    return {"time": f"2026-11-22T00:00:{second:06.3f}+00:00", "provider": provider, "retry_after_s": hint_s}


@pytest.mark.parametrize(
    ("journal", "ignored"),
    [
        ([note(0, 10), note(11)], 0),
        ([note(0, 10), note(0.1, 10), note(11)], 0),  # under way when the first was told
        ([note(0, 10), note(0.1), note(5)], 1),
        ([note(0, 10), note(0.1), note(5, 20), note(11)], 2),  # the second hint is longer
        ([note(0, 10), note(1, provider="gemini"), note(2, provider="gemini")], 0),
        ([note(0), note(1)], 0),
    ],
)
def test_a_request_before_its_time_is_a_hint_ignored(journal: list[dict[str, Any]], ignored: int) -> None:
    """Two at once: one of them may be on its way when the hint comes."""
    assert hints_ignored(journal, concurrency=2) == ignored


@pytest.mark.parametrize(
    ("whole", "cut", "unbilled", "answered", "twice"),
    [(3, 0, 0, 3, 0), (4, 0, 0, 3, 1), (3, 5, 0, 3, 0), (3, 0, 2, 3, 0), (0, 0, 0, 3, 0)],
)
def test_only_whole_billed_replies_beyond_one_a_row_are_paid_twice(
    whole: int, cut: int, unbilled: int, answered: int, twice: int
) -> None:
    lines = [
        *[{"billed": True, "delivered": True}] * whole,
        *[{"billed": True, "delivered": False}] * cut,
        *[{"billed": False, "delivered": True}] * unbilled,
    ]
    assert paid_twice(lines, answered) == twice


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ()),
        ({"replied": 8, "degraded": 2}, ()),
        ({"replied": 9}, ("1 row lost",)),
        ({"paid_twice": 1}, ("1 paid twice",)),
        ({"over_pico": 10**10}, ("$0.01 overspent",)),
        ({"hints_ignored": 2}, ("2 hints ignored",)),
        ({"requests": 61}, ("61 requests",)),
        ({"requests": 60}, ()),
        ({"replied": 0, "requests": 0}, ("10 rows lost",)),
    ],
)
def test_clean_is_nothing_lost_twice_over_ignored_or_hammered(
    change: dict[str, Any], wrong: tuple[str, ...]
) -> None:
    assert failed_checks(replace(CLEAN, **change)) == wrong


def lost(name: str, **more: Any) -> OutageResult:
    return OutageResult(OUTAGES[name], replace(CLEAN, replied=0, first_reply_s=None, **more))


def fine(name: str, **more: Any) -> OutageResult:
    return OutageResult(OUTAGES[name], replace(CLEAN, **more))


def facts(**route: Any) -> DrillFacts:
    return replace(FACTS, route=replace(ROUTE, **route))


ALONE = replace(FACTS, providers=PLAYERS[:1], config_table="the targets")


@pytest.mark.parametrize(
    ("known", "played", "told"),
    [
        (FACTS, lost("well", stop="no room"), "without an outage: no room"),
        (FACTS, lost("cut:openai", stop="the job has no room left under its cap of $1"), "Raise that cap"),
        (
            ALONE,
            lost("down:openai"),
            "all calls go to openai alone: add a target at another provider to the targets",
        ),
        (
            facts(attempts=2),
            lost("down:openai"),
            "attempts = 2 in [routes.default] is fewer than its 3 targets",
        ),
        (facts(outage_s=120.0), lost("all"), "outage_s = 120 is shorter than 5 minutes"),
        (FACTS, lost("all"), "[routes.default] has no last_resort"),
        (replace(FACTS, providers=PLAYERS[:2]), lost("all"), "two providers can be down at once"),
        (FACTS, fine("well", paid_twice=1), "no configuration should pay twice"),
    ],
)
def test_what_to_change_names_the_key_and_its_value(
    known: DrillFacts, played: OutageResult, told: str
) -> None:
    assert any(told in text for text in advice(known, [played])), advice(known, [played])


def test_a_clean_drill_has_nothing_to_change() -> None:
    played = [fine(name) for name in OUTAGES]
    assert advice(FACTS, played) == ()
    assert notes(FACTS, played) == ()


def test_what_a_route_has_enough_of_is_not_advised() -> None:
    rich = facts(last_resort=Target("local", "smollm2-135m"))
    assert advice(rich, [lost("all")]) == ()


@pytest.mark.parametrize(
    ("known", "played", "told"),
    [
        (
            replace(FACTS, keyless=("gemini",)),
            fine("well"),
            "gemini has none, so only openai and anthropic can be called",
        ),
        (
            replace(FACTS, keyless=("openai", "anthropic", "gemini")),
            fine("well"),
            "have none, so no call is possible",
        ),
        (
            facts(max_wait_s=10.0, outage_s=10.0),
            fine("throttled:openai", first_reply_s=300.0),
            "outage_s = 10 is shorter than the 60 s",
        ),
        (FACTS, fine("silent:openai", first_reply_s=600.0), "[providers.openai] timeout_s = 60"),
        (FACTS, fine("all", replied=0, degraded=10), "the last resort replied in all"),
    ],
)
def test_what_is_worth_knowing_spoils_no_verdict(known: DrillFacts, played: OutageResult, told: str) -> None:
    assert not failed_checks(played.counts)
    assert [told in text for text in notes(known, [played])] == [True]


def test_an_outage_knows_its_kind() -> None:
    assert Outage("down:a+b", "").kind == "down"
