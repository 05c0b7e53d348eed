"""Quotes: what rows cost and take, as plain arithmetic."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.estimates import Basis, Load, Offer, added, figures_at, mixed, shares
from promptkit.batch.quote import Account, Counts, Quote, make_quote
from promptkit.ledger.records import Cached, Past, Seen, past_of
from promptkit.providers.prices import Band, Tariff
from promptkit.providers.tokens import PER_CALL
from promptkit.types import Limits, Target, Usage

CHEAP, DEAR, FREE = Target("a", "cheap"), Target("b", "dear"), Target("c", "unpriced")
BASIS = Basis(per_token=0.25, concurrency=10)


def tariff(input_pico: int, output_pico: int) -> Tariff:
    band = Band(-1, input_pico, input_pico, input_pico, input_pico, output_pico, output_pico)
    return Tariff((band,), 1, "test")


def offer(target: Target = CHEAP, past: Past | None = None, *, rate: int = 1, **more: object) -> Offer:
    return Offer(target, tariff(rate, 10 * rate), 100, past=past, **more)  # pyright: ignore[reportArgumentType]


def load(*offers: Offer, strategy: str = "ordered", rows: int = 4, scopes: tuple[str, ...] = ()) -> Load:
    return Load(offers, strategy, None, scopes, Counter({PER_CALL + 400: rows}))


def quote(*loads: Load, accounts: tuple[Account, ...] = ()) -> Quote:
    return make_quote(
        template="ad/line@1",
        template_digest="1:sha256:ab",
        job=None,
        counts=Counts(),
        loads=loads,
        accounts=accounts,
        basis=BASIS,
        replies=0,
    )


PAST = Past(replies=10, low=20, mean=30.4, high=60, latency_s=2.0, failed=0.5, lost=0.1, of_estimate=1.5)


# ------------------------------------------------------------------------------ history


def seen(output: int | None, latency_s: float | None = 1.0, charged: int = 10) -> Seen:
    return Seen(1, CHEAP, 5, output, latency_s, charged)


def test_the_past_is_summed_up() -> None:
    """Lengths by rank, latency as a mean of the answers, failures and their money to one answer."""
    past = past_of([*(seen(n) for n in range(1, 11)), seen(None, 9.0, 20), seen(None, None, 0)], 1.2)
    assert past == Past(10, 1, 5.5, 9, 1.0, 0.2, 0.2, 1.2)


def test_without_an_answer_there_is_no_past() -> None:
    """Failures alone say nothing of answers; an answer that cost nothing and wasn't timed says its length."""
    assert past_of([seen(None)]) is None
    assert past_of([seen(7, None, 0), seen(None)]) == Past(1, 7, 7, 7, None, 1.0, 0.0, 1.0)


# ------------------------------------------------------------------------------ figures


def test_what_is_expected_stands_on_the_past() -> None:
    """Tokens as they were counted, answers as long as they were, and what failed attempts cost on top."""
    figures = figures_at(offer(past=PAST), load(offer()), BASIS)
    tokens = 400 // 4 * 1.5
    assert (figures.input_tokens, figures.output_tokens) == (4 * tokens, 4 * 30)
    assert figures.low_pico == 4 * (tokens + 10 * 20)
    assert figures.expected_pico == round(4 * (tokens + 10 * 30) * 1.1)
    assert figures.high_pico == round(4 * (tokens + 10 * 60) * 1.1)
    assert figures.worst_pico == 4 * (PER_CALL + 400 + 10 * 100)
    assert (figures.duration_s, figures.timed) == (4 * 1.5 * 2.0 / 4, True)


def test_without_a_past_answers_are_half_as_long_as_they_may_be() -> None:
    """A tenth, half, all of the output limit; how long it takes isn't known."""
    assert offer().lengths == (10, 50, 100)
    figures = figures_at(offer(), load(offer()), BASIS)
    assert (figures.duration_s, figures.timed) == (0.0, False)


def test_a_target_without_a_price_has_no_money() -> None:
    """Unknown is None; tokens and time are known all the same."""
    figures = figures_at(Offer(FREE, None, 100), load(offer()), BASIS)
    money = (figures.low_pico, figures.expected_pico, figures.high_pico, figures.worst_pico)
    assert (money, figures.input_tokens) == ((None,) * 4, 400)
    assert load(offer(), Offer(FREE, None, 100)).worst_pico() is None


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (Limits(), 100 * 1.5 * 2 / 10),
        (Limits(concurrency=2), 100 * 1.5 * 2 / 2),
        (Limits(requests_per_minute=10), 60 * 150 / 10),
        (Limits(input_tokens_per_minute=100), 60 * 150 * 100 * 1.5 / 100),
        (Limits(output_tokens_per_minute=100), 60 * 100 * 30 / 100),
        (Limits(requests_per_day=60), 2 * 86_400),
    ],
)
def test_the_scarcest_limit_decides_how_long_it_takes(limits: Limits, seconds: float) -> None:
    """Slots by latency, rates by their units, days that are used up; attempts that fail take their turns too."""
    figures = figures_at(offer(past=PAST, limits=limits), load(offer(), rows=100), BASIS)
    assert figures.duration_s == pytest.approx(seconds)


def test_the_worst_case_is_at_the_dearest_target_the_last_resort_included() -> None:
    """Whatever answers, one attempt a row costs no more."""
    both = load(offer(), offer(DEAR, rate=3))
    assert both.worst_pico() == 3 * 4 * (PER_CALL + 1400) == 4 * both.largest_pico()
    both.last = offer(FREE, rate=5)
    assert both.worst_pico() == 5 * 4 * (PER_CALL + 1400)
    assert Load(()).largest_pico() == 0


@given(
    sizes=st.dictionaries(st.integers(200, 10**6), st.integers(1, 50), min_size=1),
    lengths=st.lists(st.integers(0, 100), min_size=1, max_size=20),
)
def test_low_expected_worst_are_in_this_order(sizes: dict[int, int], lengths: list[int]) -> None:
    """Whatever the rows and the past are like: no row is counted with more than its ceiling."""
    one = offer(past=past_of([seen(length) for length in lengths]))
    figures = figures_at(one, Load((one,), sizes=Counter(sizes)), BASIS)
    assert figures.low_pico is not None
    assert figures.expected_pico is not None
    assert figures.worst_pico is not None
    assert figures.low_pico <= figures.worst_pico
    assert figures.expected_pico <= figures.worst_pico
    assert figures.worst_pico >= sum(
        rows * one.tariff.pico(Usage(size, 100)) for size, rows in sizes.items() if one.tariff
    )


# --------------------------------------------------------------------------- strategies


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("ordered", {DEAR: 1}),
        ("cheapest", {CHEAP: 1}),
        ("fastest", {CHEAP: 1}),
        ("weighted", {DEAR: 0.75, CHEAP: 0.25}),
    ],
)
def test_strategies_share_rows_out(strategy: str, expected: dict[Target, float]) -> None:
    """By order, expected cost, known latency, weights; what has no price or latency comes last."""
    offers = (offer(DEAR, rate=3, weight=3), offer(CHEAP, past=PAST), Offer(FREE, None, 100, weight=0))
    figures = {one.target: figures_at(one, load(*offers), BASIS) for one in offers}
    assert shares(strategy, offers, figures) == expected


def test_a_mixture_is_unknown_where_a_part_is() -> None:
    """Money of weighted targets is shared out exactly; None in, None out."""
    offers = (offer(DEAR, rate=3, weight=1), offer(CHEAP, weight=1))
    figures = {one.target: figures_at(one, load(*offers), BASIS) for one in offers}
    both = mixed(load(*offers), "weighted", figures, 7)
    assert both.expected_pico == 2 * (figures[CHEAP].expected_pico or 0)
    assert both.worst_pico == 7
    free = Offer(FREE, None, 100)
    unknown = {**figures, FREE: figures_at(free, load(free), BASIS)}
    assert mixed(load(*offers, free), "weighted", unknown, None).expected_pico is None
    assert added([figures[CHEAP], unknown[FREE]]).expected_pico is None


# -------------------------------------------------------------------------- prompt caches


def caching(past: Past | None = None, caches_from: int | None = 50) -> Offer:
    """100 tokens of input a row: 10 pico each, written 12, read 1; an answer of 50 or as before, 1 each."""
    rates = Tariff((Band(-1, 10, 1, 12, 12, 1, 1),), 1, "test")
    return Offer(CHEAP, rates, 100, past=past, caches_from=caches_from)


@pytest.mark.parametrize(
    ("one", "beginnings", "saved"),
    [
        (caching(), (), 0),
        (caching(), ((80, 4),), 3 * 80 * 9 - 80 * 2),
        (caching(), ((80, 2), (80, 2)), 2 * 80 * 9 - 2 * 80 * 2),
        (caching(), ((80, 1), (40, 3)), -80 * 2),
        (caching(caches_from=81), ((80, 4),), 0),
        (caching(caches_from=None), ((80, 4),), 0),
        (caching(PAST), ((80, 4),), (3 * 80 * 9 - 80 * 2) * 1.5),
        (caching(replace(PAST, cached=Cached())), ((80, 4),), 0),
        (caching(replace(PAST, cached=Cached(0.6)), None), (), 150 * (0.45 * 9 * 4 - 0.15 * 2 * 4)),
        (caching(replace(PAST, cached=Cached(0.0, 1.0)), None), ((80, 4),), -4 * 150 * 2),
        (Offer(FREE, None, 100, caches_from=50), ((80, 4),), None),
    ],
    ids=[
        "none",
        "alike",
        "two kinds",
        "one short",
        "below the least",
        "off",
        "estimate mended",
        "known: never",
        "known: read",
        "known: written",
        "unpriced",
    ],
)
def test_what_a_prompt_cache_saves(
    one: Offer, beginnings: tuple[tuple[int, int], ...], saved: float | None
) -> None:
    """One row of each beginning writes, the others read; by history where batches are known; dearer is below 0."""
    basis = replace(BASIS, rows=4, estimated=400, beginnings=beginnings)
    figures, plain = (
        figures_at(one, load(one), basis),
        figures_at(replace(one, caches_from=None), load(one), BASIS),
    )
    assert figures.cache_saved_pico == (None if saved is None else pytest.approx(saved, rel=0.02))
    assert figures.worst_pico == plain.worst_pico
    both = added([figures, mixed(load(one), "ordered", {one.target: figures}, 7)])
    assert both.cache_saved_pico == (None if saved is None else 2 * (figures.cache_saved_pico or 0))
    if figures.expected_pico is not None and one.past is None:
        assert figures.expected_pico + (figures.cache_saved_pico or 0) == plain.expected_pico
        assert (figures.high_pico or 0) >= max(plain.high_pico or 0, figures.expected_pico)


def test_what_the_first_call_of_a_batch_and_single_calls_found_says_nothing_of_rows() -> None:
    """Shares of the input of a batch's later answers; none where no batch had two."""

    def found(call: int, job: int | None, read: int, written: int) -> Seen:
        return Seen(call, CHEAP, 100, 9, 1.0, 10, job, read, written)

    cold = [found(1, 1, 0, 80), found(5, None, 0, 80), found(6, 2, 0, 80)]
    assert (past_of(cold) or PAST).cached is None
    past = past_of([*cold, found(4, 1, 80, 0), found(7, 2, 40, 20), Seen(9, CHEAP, None, None, 1.0, 0, 1)])
    assert past is not None
    assert past.cached == Cached(0.6, 0.1)


def test_cheapest_compares_prices_without_a_cache() -> None:
    """As a route does, which can't foresee call by call what is cached."""
    cached = replace(caching(), target=DEAR)
    plain = Offer(CHEAP, Tariff((Band(-1, 9, 9, 9, 9, 1, 1),), 1, "test"), 100)
    basis = replace(BASIS, rows=4, estimated=400, beginnings=((80, 4),))
    figures = {one.target: figures_at(one, load(one), basis) for one in (plain, cached)}
    assert (figures[DEAR].expected_pico or 0) < (figures[CHEAP].expected_pico or 0)
    assert shares("cheapest", (cached, plain), figures) == {CHEAP: 1}


# ------------------------------------------------------------------------------- quotes


def test_loads_add_up_and_caps_count_their_own() -> None:
    """A cap of a tag counts the rows under it; what doesn't fit is short."""
    dear = load(offer(DEAR, rate=3), scopes=("day:x", "day:x client=b"), rows=1)
    cheap = load(offer(), scopes=("day:x",))
    a_row = PER_CALL + 1400
    told = quote(cheap, dear, accounts=(Account("day:x", 9**9, 9**9), Account("day:x client=b", 9, 2)))
    assert [(need.worst_pico, need.fits) for need in told.needs] == [(7 * a_row, True), (3 * a_row, False)]
    assert [need.scope for need in told.short] == ["day:x client=b"]
    assert told.figures.worst_pico == 7 * a_row
    assert [(one.target, one.rows) for one in told.targets] == [(CHEAP, 4), (DEAR, 1)]
    assert [one.strategy for one in told.strategies] == ["ordered", "cheapest", "fastest", "weighted"]
    assert told.figures.high_pico is not None
    assert told.usual_pico == min(told.figures.high_pico + 3 * a_row, 7 * a_row)


def test_nothing_is_sure_without_a_price() -> None:
    """A cap over rows without a price neither fits nor is short: such rows are refused elsewhere."""
    told = quote(load(Offer(FREE, None, 100), scopes=("job:1",)), accounts=(Account("job:1", 5, 5),))
    assert (told.needs[0].fits, told.short, told.usual_pico) == (False, (), None)


def test_a_quote_of_no_rows_costs_nothing() -> None:
    """Nothing to send: 0, not unknown."""
    told = quote()
    assert (told.figures.worst_pico, told.usual_pico, told.strategy) == (0, 0, "ordered")
