"""Limits, purely: lines of units in time, what a process holds of them, estimates, and what replies say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.routing.limits import (
    BURST_S,
    LEASE_S,
    Allowance,
    Day,
    Kind,
    LeaseRequest,
    Reported,
    UsageEstimate,
    allowances,
    day_began_s,
    day_ends_s,
    lease,
    lease_today,
    limits_of,
    reported,
    share,
)
from promptkit.types import Limits, Model, Provider, Usage

NOW_S = 1_000_000.0
DAY_S = 86_400.0


def ask(amount: float, rate: float = 10.0, not_before_s: float = 0.0) -> LeaseRequest:
    return LeaseRequest(Kind.REQUESTS, amount, rate, not_before_s)


@pytest.mark.parametrize(
    ("free_s", "wish", "starts_s", "next_s"),
    [
        # a line that nobody used for long: a burst of two seconds' worth, no more
        (0.0, ask(5), NOW_S - BURST_S, NOW_S - BURST_S + 0.5),
        # behind what others were given
        (NOW_S + 3, ask(5), NOW_S + 3, NOW_S + 3.5),
        # held back by what a reply said
        (NOW_S, ask(5, not_before_s=NOW_S + 9), NOW_S + 9, NOW_S + 9.5),
    ],
)
def test_a_lease_is_the_next_units_of_a_line(
    free_s: float, wish: LeaseRequest, starts_s: float, next_s: float
) -> None:
    """Each process gets units behind those of the others."""
    assert lease(free_s, wish, NOW_S) == (starts_s, next_s)


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 5)), min_size=1, max_size=60))
def test_leases_never_pass_the_rate(wishes: list[tuple[float, float]]) -> None:
    """Whoever leases when: what is free by any time is the rate's worth, and one burst."""
    rate, now_s, free_s, given = 10.0, NOW_S, 0.0, 0.0
    for amount, passed_s in wishes:
        now_s += passed_s
        _, free_s = lease(free_s, ask(amount, rate), now_s)
        given += amount
        beyond_s = max(free_s - now_s, 0.0)
        assert given <= rate * (now_s - NOW_S + BURST_S + beyond_s) + 1e-3


@pytest.mark.parametrize(
    ("began_s", "used", "wanted", "given", "then"),
    [
        (0.0, 0, 3, 3, 3),
        (0.0, 9, 3, 1, 10),
        (0.0, 10, 3, 0, 10),
        (0.0, 12, 3, 0, 12),
        (-DAY_S, 10, 3, 3, 3),
    ],
)
def test_a_day_gives_what_is_left(began_s: float, used: int, wanted: int, given: int, then: int) -> None:
    """And begins anew; a limit that was lowered gives nothing."""
    assert lease_today(began_s, used, wanted, 10, 0.0) == (given, then)


def test_a_process_leases_a_few_of_a_days_requests_and_more_while_it_goes_on() -> None:
    """One to begin with, so that a single call uses up one; then twice as many, to a thousandth of the day."""
    day, asked = Day(20_000), list[int | None]()
    for step in range(7):
        wanted = day.request(NOW_S + step)
        asked.append(wanted)
        day = day.leased(wanted or 0, NOW_S + DAY_S, NOW_S + step)
        assert day.request(NOW_S + step) is None
        day = day.debited(wanted or 0)
    assert asked == [1, 2, 4, 8, 16, 20, 20]
    assert day.request(NOW_S + 60) == 1
    assert Day(3).request(NOW_S) == 1


def test_what_was_leased_of_a_day_is_no_part_of_the_next() -> None:
    """What is left at its end is lost; what is given back within it is there again."""
    day = Day(20_000).leased(4, NOW_S, NOW_S - 1).debited()
    assert (day.left, day.request(NOW_S - 1), day.request(NOW_S)) == (3, None, 8)
    assert day.leased(8, NOW_S, NOW_S - 1).left == 11
    assert day.leased(8, NOW_S + DAY_S, NOW_S).left == 8
    assert day.debited(-1).left == 4


def test_a_day_is_the_providers_own() -> None:
    """UTC, or from 08:00 UTC at Gemini, whose midnight is California's."""
    noon_s, early_s = 5 * DAY_S + DAY_S / 2, 5 * DAY_S + 7 * 3600
    assert day_began_s(noon_s, "openai") == 5 * DAY_S
    assert day_began_s(noon_s, "gemini") == 5 * DAY_S + 8 * 3600
    assert day_began_s(early_s, "gemini") == 4 * DAY_S + 8 * 3600
    assert day_ends_s(early_s, "gemini") == 5 * DAY_S + 8 * 3600


def test_slots_are_shared_equally() -> None:
    """At least one each."""
    assert [share(64, n) for n in (0, 1, 3, 100)] == [64, 64, 21, 1]


def test_a_models_own_limits_win_one_by_one() -> None:
    """What the model leaves open is its provider's."""
    provider = Provider("p", "openai", "chat", "openai", limits=Limits(60, 1000, 500, 400, 8))
    assert limits_of(provider, Model("m")) == provider.limits
    own = Model("m", limits=Limits(requests_per_minute=6, output_tokens_per_minute=40))
    assert limits_of(provider, own) == Limits(6, 1000, 500, 40, 8)


def test_only_what_is_limited_has_an_allowance() -> None:
    """Units a second, nothing leased yet."""
    assert allowances(Limits()) == {}
    assert allowances(Limits(requests_per_minute=60, output_tokens_per_minute=600)) == {
        Kind.REQUESTS: Allowance(1.0),
        Kind.OUTPUT: Allowance(10.0),
    }


def test_leases_double_while_they_are_needed() -> None:
    """One request takes one unit from the others; a busy process takes two seconds' worth at a time."""
    held, lots = Allowance(10.0), list[float]()
    now_s = NOW_S
    for _ in range(60):
        wish = held.request(Kind.REQUESTS, 1.0, now_s)
        if wish is not None:
            lots.append(wish.amount)
            held = held.leased(wish.amount, now_s, now_s)
        held, _ = held.debited(1.0, now_s)
        now_s += 0.1
    assert lots == [1, 2, 4, 8, 16, 10 * LEASE_S, 10 * LEASE_S]
    later_s = now_s + 60
    rested = held.request(Kind.REQUESTS, held.credit + 1, later_s)
    assert rested is not None
    assert rested.amount == 1


def test_turns_follow_each_other_at_the_rate() -> None:
    """Each call gets the time of its turn; what was saved up is two seconds' worth at most."""
    held = Allowance(10.0).leased(100, NOW_S - 60, NOW_S)
    turns: list[float] = []
    for _ in range(25):
        held, at_s = held.debited(1.0, NOW_S)
        turns.append(at_s - NOW_S)
    assert turns[0] == -BURST_S
    assert turns[-1] == pytest.approx(0.4)
    assert held.credit == 75


def test_a_second_lease_comes_behind_the_first() -> None:
    """What is left of the first lease isn't put off for longer than it must be."""
    held = Allowance(10.0).leased(10, NOW_S, NOW_S).leased(10, NOW_S + 5, NOW_S)
    assert (held.credit, held.next_s) == (20, NOW_S + 4)


def test_an_estimate_is_put_right() -> None:
    """Too low: the next turn comes later; too high: earlier."""
    held, _ = Allowance(10.0).leased(100, NOW_S, NOW_S).debited(50, NOW_S)
    assert held.corrected(20).next_s == held.next_s + 2
    assert held.corrected(-20) == Allowance(10.0, 70, held.next_s - 2, 100, NOW_S)


def test_a_reply_can_only_hold_back() -> None:
    """Never raised by a stale reply; held back until what is needed will be there."""
    held = Allowance(10.0, 50, NOW_S)
    assert held.clamped(40, None, 1, NOW_S) == held
    assert held.clamped(0, None, 5, NOW_S).next_s == NOW_S + 0.5
    assert held.clamped(0, 60, 5, NOW_S) == Allowance(1.0, 50, NOW_S + 5)
    assert held.clamped(40, 6_000_000, 1, NOW_S).rate == 10.0
    assert held.clamped(40, 0, 1, NOW_S).rate > 0


def test_a_guess_learns_from_replies() -> None:
    """The first call counts its whole output limit; later ones what replies have been using."""
    guess = UsageEstimate()
    assert guess.needs(1000, 400) == {Kind.REQUESTS: 1.0, Kind.INPUT: 300.0, Kind.OUTPUT: 400.0}
    for _ in range(60):
        guess = guess.learned(1000, Usage(200, 50))
    needs = guess.needs(1000, 400)
    assert needs[Kind.INPUT] == pytest.approx(200, rel=0.01)
    assert needs[Kind.OUTPUT] == pytest.approx(50)
    assert guess.needs(1000, 30)[Kind.OUTPUT] == 30
    assert UsageEstimate().learned(0, Usage(200, 50)) == UsageEstimate(0.3, 50)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {}),
        (
            {
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-limit-requests": "10",
                "x-ratelimit-reset-requests": "6s",
                "x-ratelimit-remaining-tokens": "100",
            },
            {
                Kind.REQUESTS: Reported(9, 10),
                Kind.INPUT: Reported(100, None),
                Kind.OUTPUT: Reported(100, None),
            },
        ),
        # a day's limit says nothing of a minute's
        (
            {
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-limit-requests": "200",
                "x-ratelimit-reset-requests": "7m12s",
            },
            {Kind.REQUESTS: Reported(9, None)},
        ),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-remaining-tokens": "many"}, {}),
        (
            {
                "anthropic-ratelimit-requests-remaining": "4",
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-reset": "2026-11-22T00:00:00Z",
                "anthropic-ratelimit-tokens-remaining": "500",
                "anthropic-ratelimit-input-tokens-remaining": "80",
                "anthropic-ratelimit-output-tokens-remaining": "700",
            },
            {
                Kind.REQUESTS: Reported(4, 50),
                Kind.INPUT: Reported(80, None),
                Kind.OUTPUT: Reported(500, None),
            },
        ),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], expected: dict[Kind, Reported]) -> None:
    """OpenAI's and Anthropic's; the least where two speak of the same."""
    assert reported(headers) == expected
