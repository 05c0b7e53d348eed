"""What rows cost and take at a target, and under a strategy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from promptkit.engine.context import Session
from promptkit.errors import PromptKitError
from promptkit.ledger.records import Cached, Past, Seen, past_of
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices, Tariff
from promptkit.providers.tokens import PER_CALL, estimate_input_tokens
from promptkit.routing.limits import limits_of
from promptkit.templates.template import Template
from promptkit.types import Limits, Params, Route, Target, Usage

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


_DAY_S: Final = 86_400.0


_MINUTE_S: Final = 60.0


_BLIND: Final = (0.1, 0.5, 1.0)
"""An answer's length as shares of its limit (low, expected, high), where no answer is known."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A target as rows would be sent to it; `tariff` None: no price is known.

    `caches_from` are the tokens from which on it keeps what prompts begin with; None: it doesn't.
    """

    target: Target
    tariff: Tariff | None
    output_limit: int
    limits: Limits = field(default_factory=Limits)
    past: Past | None = None
    weight: int = 1
    caches_from: int | None = None

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Output tokens of an answer: low, expected, high."""
        if self.past is None:
            low, mean, high = (round(share * self.output_limit) for share in _BLIND)
        else:
            low, mean, high = self.past.low, round(self.past.mean), self.past.high
        return min(low, self.output_limit), min(mean, self.output_limit), min(high, self.output_limit)


@dataclass(slots=True)
class Load:
    """Rows that fare alike: the same targets, the same caps.

    Args:
        offers: the targets that they may be sent to, in the route's order.
        strategy: of their route.
        last: its last resort.
        scopes: the keys of the caps that they count under.
        sizes: how many rows there are of each ceiling of input tokens.
    """

    offers: tuple[Offer, ...]
    strategy: str = "ordered"
    last: Offer | None = None
    scopes: tuple[str, ...] = ()
    sizes: Counter[int] = field(default_factory=Counter[int])

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.sizes.total()

    def worst_pico(self) -> int | None:
        """The most that one attempt a row can cost, wherever it goes; None where a price is unknown."""
        every = (*self.offers, *(() if self.last is None else (self.last,)))
        total = 0
        for size, rows in self.sizes.items():
            costs = [_ceiling(offer, size) for offer in every]
            known = [cost for cost in costs if cost is not None]
            if len(known) < len(costs):
                return None
            total += rows * max(known)
        return total

    def largest_pico(self) -> int:
        """The ceiling of the dearest single row, as far as prices are known."""
        if not self.sizes:
            return 0
        return max(_ceiling(offer, max(self.sizes)) or 0 for offer in self.offers)


def _ceiling(offer: Offer, size: int) -> int | None:
    return None if offer.tariff is None else offer.tariff.max_cost_pico(size, offer.output_limit)


@dataclass(frozen=True, slots=True)
class Figures:
    """What rows cost in pico-USD and how long they take; None is unknown.

    `low` and `high` are with answers as short and long as a tenth of those before; `worst` is the
    bound. `cache_saved_pico` is what a prompt cache spares (below 0: costs more), and is in `low` and
    `expected` already; `high` and `worst` do without one. `duration_s` is at least what the limits ask for; `timed`: the answers' own time is in it.
    """

    input_tokens: int
    output_tokens: int
    low_pico: int | None
    expected_pico: int | None
    high_pico: int | None
    worst_pico: int | None
    duration_s: float
    timed: bool
    cache_saved_pico: int | None = 0


@dataclass(frozen=True, slots=True)
class Basis:
    """What all figures of a quote stand on.

    `per_token` are estimated input tokens to one of the ceiling's; `concurrency` rows at once;
    `rows` all that are sent, `estimated` their tokens; `beginnings` the tokens that prompts begin
    with and how many rows do so, for each beginning.
    """

    per_token: float
    concurrency: int
    rows: int = 0
    estimated: int = 0
    beginnings: tuple[tuple[int, int], ...] = ()

    def input_tokens(self, offer: Offer, size: int) -> int:
        """About how many input tokens a row of such a ceiling has at a target."""
        of_estimate = 1.0 if offer.past is None else offer.past.of_estimate
        return max(1, round((size - PER_CALL) * self.per_token * of_estimate))

    def cached(self, offer: Offer) -> Cached:
        """What a target's prompt cache does for the rows: by those before, else by how they begin.

        One row of each beginning is sent first, finds nothing and writes; the others read.
        """
        known = None if offer.past is None else offer.past.cached
        if known is not None:
            first = min(1.0, max(1, len(self.beginnings)) / max(1, self.rows))
            return Cached(known.read * (1 - first), known.written + known.read * first)
        if offer.caches_from is None or not self.estimated:
            return Cached()
        kept = [(tokens, rows) for tokens, rows in self.beginnings if tokens >= offer.caches_from]
        return Cached(
            read=sum(tokens * (rows - 1) for tokens, rows in kept) / self.estimated,
            written=sum(tokens for tokens, _ in kept) / self.estimated,
        )


def figures_at(offer: Offer, load: Load, basis: Basis) -> Figures:
    """What it would be if one target answered all rows of a load."""
    low, mean, high = offer.lengths
    past = offer.past
    lost = 1.0 if past is None else 1.0 + past.lost
    cached = basis.cached(offer)
    tokens = 0
    low_pico = expected = high_pico = saved = worst = 0
    for size, rows in load.sizes.items():
        row_tokens = basis.input_tokens(offer, size)
        tokens += rows * row_tokens
        if offer.tariff is not None:
            kept = _kept(row_tokens, cached)
            pico = offer.tariff.pico(replace(kept, output_tokens=mean))
            low_pico += rows * offer.tariff.pico(replace(kept, output_tokens=low))
            expected += rows * pico
            high_pico += rows * offer.tariff.pico(Usage(row_tokens, high))
            saved += rows * (offer.tariff.pico(Usage(row_tokens, mean)) - pico)
            worst += rows * offer.tariff.max_cost_pico(size, offer.output_limit)
    duration_s, timed = _duration(offer, load.rows, tokens, load.rows * mean, basis.concurrency)
    priced = offer.tariff is not None
    return Figures(
        input_tokens=tokens,
        output_tokens=load.rows * mean,
        low_pico=low_pico if priced else None,
        expected_pico=min(round(expected * lost), worst) if priced else None,
        high_pico=min(round(max(expected, high_pico) * lost), worst) if priced else None,
        worst_pico=worst if priced else None,
        duration_s=duration_s,
        timed=timed,
        cache_saved_pico=saved if priced else None,
    )


def _kept(tokens: int, cached: Cached) -> Usage:
    """A row's input, as a prompt cache shares it out on average."""
    read = min(tokens, round(tokens * cached.read))
    written = min(tokens - read, round(tokens * cached.written))
    return Usage(tokens, 0, cache_read_tokens=read, cache_write_tokens=written)


def _duration(offer: Offer, rows: int, tokens: int, output: int, concurrency: int) -> tuple[float, bool]:
    """How long a target takes for rows, in seconds; whether the answers' own time is known.

    Rates are lines of evenly spread turns, so the scarcest one decides; attempts that fail take
    their turns as well. Requests of a day that is used up wait for the next.
    """
    limits, past = offer.limits, offer.past
    tries = 1.0 if past is None else 1.0 + past.failed
    asked = (
        (rows * tries, limits.requests_per_minute),
        (tokens * tries, limits.input_tokens_per_minute),
        (output, limits.output_tokens_per_minute),
    )
    seconds = [_MINUTE_S * amount / limit for amount, limit in asked if limit]
    if limits.requests_per_day:
        seconds.append(_DAY_S * max(0, math.ceil(rows * tries / limits.requests_per_day) - 1))
    timed = past is not None and past.latency_s is not None
    if past is not None and past.latency_s is not None:
        slots = min(concurrency, limits.concurrency or concurrency, max(rows, 1))
        seconds.append(rows * tries * past.latency_s / slots)
    return max(seconds, default=0.0), timed


def shares(
    strategy: str, offers: Sequence[Offer], figures: Mapping[Target, Figures]
) -> dict[Target, Fraction]:
    """The share of rows that a strategy sends first to each target."""
    if strategy == "weighted":
        whole = sum(offer.weight for offer in offers)
        return {offer.target: Fraction(offer.weight, whole) for offer in offers if offer.weight}

    def by(offer: Offer) -> float:
        if strategy == "cheapest":
            figure = figures[offer.target]
            # A route compares prices without a cache, which it can't foresee call by call.
            plain = total([figure.expected_pico, figure.cache_saved_pico])
            return math.inf if plain is None else plain
        if strategy == "fastest":
            latency_s = None if offer.past is None else offer.past.latency_s
            return math.inf if latency_s is None else latency_s
        return 0.0

    return {min(offers, key=by).target: Fraction(1)}


def mixed(load: Load, strategy: str, figures: Mapping[Target, Figures], worst_pico: int | None) -> Figures:
    """The figures of a load whose rows a strategy shares out.

    Args:
        load: the rows.
        strategy: shares them out.
        figures: of each target, as if it answered all.
        worst_pico: what the load costs where all goes to the dearest, which no strategy rules out.
    """
    parts = [(figures[target], share) for target, share in shares(strategy, load.offers, figures).items()]
    return Figures(
        input_tokens=round(sum(one.input_tokens * share for one, share in parts)),
        output_tokens=round(sum(one.output_tokens * share for one, share in parts)),
        low_pico=_shared(parts, lambda one: one.low_pico),
        expected_pico=_shared(parts, lambda one: one.expected_pico),
        high_pico=_shared(parts, lambda one: one.high_pico),
        worst_pico=worst_pico,
        duration_s=max(one.duration_s * float(share) for one, share in parts),
        timed=all(one.timed for one, _ in parts),
        cache_saved_pico=_shared(parts, lambda one: one.cache_saved_pico),
    )


def _shared(parts: Sequence[tuple[Figures, Fraction]], amount: Callable[[Figures], int | None]) -> int | None:
    total = Fraction(0)
    for one, share in parts:
        pico = amount(one)
        if pico is None:
            return None
        total += pico * share
    return round(total)


def added(parts: Sequence[Figures]) -> Figures:
    """The figures of several loads together: they share the limits, so their times add up."""
    return Figures(
        input_tokens=sum(one.input_tokens for one in parts),
        output_tokens=sum(one.output_tokens for one in parts),
        low_pico=total([one.low_pico for one in parts]),
        expected_pico=total([one.expected_pico for one in parts]),
        high_pico=total([one.high_pico for one in parts]),
        worst_pico=total([one.worst_pico for one in parts]),
        duration_s=sum(one.duration_s for one in parts),
        timed=all(one.timed for one in parts),
        cache_saved_pico=total([one.cache_saved_pico for one in parts]),
    )


def total(amounts: Sequence[int | None]) -> int | None:
    """A sum; None where a part is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


_RENDERED: Final = 40
"""So many calls of the past are rendered again, to see how many tokens were counted to one estimated."""


class Offers:
    """The targets as rows of a template would be sent to them."""

    def __init__(self, session: Session, template: Template, history: History) -> None:
        self._session = session
        self._template = template
        self._history = history
        self._prices = Prices()
        self._now = datetime.now(UTC)

    def of(self, target: Target, route: Route, weight: int = 1) -> Offer:
        """A target on a route: its price, its limits, and what it was like before."""
        provider, model = self._session.settings.catalog.pair(target)
        params: Params = self._session.params(self._template, route)
        card = self._prices.card(provider, model, self._now)
        return Offer(
            target=target,
            tariff=None if card is None else card.tariff(),
            output_limit=output_limit(params, model),
            limits=limits_of(provider, model),
            past=self._history.of(target),
            weight=weight,
            caches_from=model.cache_min_tokens if provider.prompt_cache else None,
        )


class History:
    """What the ledger has of a template, read when it is first asked; of other versions, where this one is new."""

    def __init__(self, template: Template, ledger: Ledger | None) -> None:
        self._template = template
        self._ledger = ledger
        self._pasts: dict[Target | None, Past | None] | None = None

    @property
    def answers(self) -> int:
        """How many answers are known."""
        past = self._read().get(None)
        return 0 if past is None else past.answers

    def of(self, target: Target) -> Past | None:
        """Of a target; of one that never answered, how long the others' answers were."""
        pasts = self._read()
        past = pasts.get(target)
        every = pasts.get(None)
        if past is not None or every is None:
            return past
        return Past(0, every.low, every.mean, every.high)

    def _read(self) -> dict[Target | None, Past | None]:
        if self._pasts is None:
            self._pasts = {} if self._ledger is None else self._sum_up(self._ledger)
        return self._pasts

    def _sum_up(self, ledger: Ledger) -> dict[Target | None, Past | None]:
        seen = ledger.reports.attempts_of_template(self._template.digest)
        same = bool(seen)
        if not same:
            seen = ledger.reports.attempts_of_other_versions(self._template.ref.name)
        by_target: dict[Target, list[Seen]] = {}
        for one in seen:
            by_target.setdefault(one.target, []).append(one)
        pasts: dict[Target | None, Past | None] = {
            target: past_of(each, self._of_estimate(ledger, each)) if same else _of_others(each)
            for target, each in by_target.items()
        }
        return pasts | {None: past_of(seen)}

    def _of_estimate(self, ledger: Ledger, seen: list[Seen]) -> float:
        """How many input tokens a target counted to one that was estimated, of calls that can be rendered again."""
        counted = {one.call: one.input_tokens for one in seen if one.input_tokens is not None}
        latest = sorted(counted)[-_RENDERED:]
        told = estimated = 0
        for call, bound in ledger.calls.variables(latest).items():
            try:
                prompt = self._template.render(self._template.bind(bound))
            except PromptKitError:
                continue  # erased in part, say: it tells nothing
            estimated += estimate_input_tokens(prompt, self._template.spec.output)
            told += counted[call]
        return told / estimated if estimated else 1.0


def _of_others(seen: list[Seen]) -> Past | None:
    """What other versions' answers were like; how much of them was cached tells nothing of a new beginning."""
    past = past_of(seen)
    return None if past is None else replace(past, cached=None)
