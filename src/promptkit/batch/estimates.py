"""The cost and the duration of rows at a target, and under a strategy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

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


_DAY_S = 86_400.0
_MINUTE_S = 60.0

_BLIND = (0.1, 0.5, 1.0)
"""The length of a reply as shares of its limit (low, expected, high), if no reply is known."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A target as rows would be sent to it; `tariff` None: no price is known.

    `caches_from` is the number of tokens from which it caches prefixes; None: it has no prompt cache.
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
        """The output tokens of a reply: low, expected, high."""
        if self.past is None:
            low, mean, high = (round(share * self.output_limit) for share in _BLIND)
        else:
            low, mean, high = self.past.low, round(self.past.mean), self.past.high
        return min(low, self.output_limit), min(mean, self.output_limit), min(high, self.output_limit)


@dataclass(slots=True)
class Load:
    """Rows with the same targets and the same caps.

    Args:
        offers: the targets, in the order of the route.
        strategy: of the route.
        last: the last resort.
        scopes: the keys of the caps.
        sizes: the number of rows by their max input tokens.
    """

    offers: tuple[Offer, ...]
    strategy: str = "ordered"
    last: Offer | None = None
    scopes: tuple[str, ...] = ()
    sizes: Counter[int] = field(default_factory=Counter[int])

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.sizes.total()

    def worst_pico(self) -> int | None:
        """Return the most that one attempt per row can cost at any target; None if a price is unknown."""
        every = (*self.offers, *(() if self.last is None else (self.last,)))
        tariffs = [(offer.tariff, offer.output_limit) for offer in every if offer.tariff is not None]
        if self.sizes and len(tariffs) < len(every):
            return None
        return sum(
            rows * max(tariff.max_cost_pico(size, limit) for tariff, limit in tariffs)
            for size, rows in self.sizes.items()
        )

    def largest_pico(self) -> int:
        """Return the max cost of the most expensive row, as far as prices are known."""
        if not self.sizes:
            return 0
        return max(
            0 if offer.tariff is None else offer.tariff.max_cost_pico(max(self.sizes), offer.output_limit)
            for offer in self.offers
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """The cost of rows in pico-USD, and their duration; None is unknown.

    `low` and `high` assume replies as short and as long as a tenth of the earlier ones; `worst` is
    the bound. `cache_saved_pico` is what a prompt cache saves (below 0: it costs more). `low` and
    `expected` include it; `high` and `worst` assume no cache. `duration_s` is at least what the
    limits require; `timed`: it includes the duration of the replies.
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
    """The basis of all figures of a quote.

    `per_token` is the ratio of estimated to max input tokens; `concurrency` the rows in flight;
    `rows` the rows that are sent, `estimated` their tokens; `beginnings` the tokens of each prefix,
    and how many rows begin with it.
    """

    per_token: float
    concurrency: int
    rows: int = 0
    estimated: int = 0
    beginnings: tuple[tuple[int, int], ...] = ()

    def input_tokens(self, offer: Offer, size: int) -> int:
        """Estimate the input tokens at a target of a row with so many max input tokens."""
        of_estimate = 1.0 if offer.past is None else offer.past.of_estimate
        return max(1, round((size - PER_CALL) * self.per_token * of_estimate))

    def cached(self, offer: Offer) -> Cached:
        """Return what a target's prompt cache does for the rows, from earlier rows or from the prefixes.

        The first row of each prefix writes it; the others read it.
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
    """Return the figures if one target served all rows of a load."""
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
    """Return the input of an average row, by what is read from and written to the prompt cache."""
    read = min(tokens, round(tokens * cached.read))
    written = min(tokens - read, round(tokens * cached.written))
    return Usage(tokens, 0, cache_read_tokens=read, cache_write_tokens=written)


def _duration(offer: Offer, rows: int, tokens: int, output: int, concurrency: int) -> tuple[float, bool]:
    """Return how long a target takes for rows, in seconds, and whether the duration of replies is known.

    Rate limits spread requests evenly, so the tightest one decides; failed attempts count, too.
    Requests beyond the limit of a day wait for the next day.
    """
    limits, past = offer.limits, offer.past
    attempts = 1.0 if past is None else 1.0 + past.failed
    asked = (
        (rows * attempts, limits.requests_per_minute),
        (tokens * attempts, limits.input_tokens_per_minute),
        (output, limits.output_tokens_per_minute),
    )
    seconds = [_MINUTE_S * amount / limit for amount, limit in asked if limit]
    if limits.requests_per_day:
        seconds.append(_DAY_S * max(0, math.ceil(rows * attempts / limits.requests_per_day) - 1))
    timed = past is not None and past.latency_s is not None
    if past is not None and past.latency_s is not None:
        slots = min(concurrency, limits.concurrency or concurrency, max(rows, 1))
        seconds.append(rows * attempts * past.latency_s / slots)
    return max(seconds, default=0.0), timed


def shares(
    strategy: str, offers: Sequence[Offer], figures: Mapping[Target, Figures]
) -> dict[Target, Fraction]:
    """Return the share of rows that a strategy sends to each target first."""
    if strategy == "weighted":
        whole = sum(offer.weight for offer in offers)
        return {offer.target: Fraction(offer.weight, whole) for offer in offers if offer.weight}

    def by(offer: Offer) -> float:
        if strategy == "cheapest":
            figure = figures[offer.target]
            # A route compares prices without a prompt cache: it can't predict a cache hit.
            uncached = total([figure.expected_pico, figure.cache_saved_pico])
            return math.inf if uncached is None else uncached
        if strategy == "fastest":
            latency_s = None if offer.past is None else offer.past.latency_s
            return math.inf if latency_s is None else latency_s
        return 0.0

    return {min(offers, key=by).target: Fraction(1)}


def mixed(load: Load, strategy: str, figures: Mapping[Target, Figures], worst_pico: int | None) -> Figures:
    """Return the figures of a load under a strategy.

    Args:
        load: the rows.
        strategy: distributes the rows.
        figures: by target, as if it served all rows.
        worst_pico: the cost at the most expensive target, which no strategy excludes.
    """
    parts = [(figures[target], share) for target, share in shares(strategy, load.offers, figures).items()]
    return Figures(
        input_tokens=round(sum(each.input_tokens * share for each, share in parts)),
        output_tokens=round(sum(each.output_tokens * share for each, share in parts)),
        low_pico=_shared(parts, lambda each: each.low_pico),
        expected_pico=_shared(parts, lambda each: each.expected_pico),
        high_pico=_shared(parts, lambda each: each.high_pico),
        worst_pico=worst_pico,
        duration_s=max(each.duration_s * float(share) for each, share in parts),
        timed=all(each.timed for each, _ in parts),
        cache_saved_pico=_shared(parts, lambda each: each.cache_saved_pico),
    )


def _shared(parts: Sequence[tuple[Figures, Fraction]], amount: Callable[[Figures], int | None]) -> int | None:
    amounts = [(amount(figures), share) for figures, share in parts]
    known = [pico * share for pico, share in amounts if pico is not None]
    return round(sum(known)) if len(known) == len(amounts) else None


def added(parts: Sequence[Figures]) -> Figures:
    """Return the figures of several loads together: they share the limits, so their durations add up."""
    return Figures(
        input_tokens=sum(each.input_tokens for each in parts),
        output_tokens=sum(each.output_tokens for each in parts),
        low_pico=total([each.low_pico for each in parts]),
        expected_pico=total([each.expected_pico for each in parts]),
        high_pico=total([each.high_pico for each in parts]),
        worst_pico=total([each.worst_pico for each in parts]),
        duration_s=sum(each.duration_s for each in parts),
        timed=all(each.timed for each in parts),
        cache_saved_pico=total([each.cache_saved_pico for each in parts]),
    )


def total(amounts: Sequence[int | None]) -> int | None:
    """Return a sum; None if a part is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


_RENDERED = 40
"""So many earlier calls are rendered once more, to compare their counted tokens with the estimate."""


class Offers:
    """The targets, as rows of a template would be sent to them."""

    def __init__(self, session: Session, template: Template, history: History) -> None:
        self._session = session
        self._template = template
        self._history = history
        self._prices = Prices()
        self._now = datetime.now(UTC)

    def of(self, target: Target, route: Route, weight: int = 1) -> Offer:
        """Return a target on a route: its price, its limits, and its history."""
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
    """The history of a template in the ledger, read when first needed; of other versions, if this one is new."""

    def __init__(self, template: Template, ledger: Ledger | None) -> None:
        self._template = template
        self._ledger = ledger
        self._pasts: dict[Target | None, Past | None] | None = None

    @property
    def replies(self) -> int:
        """The number of known replies."""
        past = self._read().get(None)
        return 0 if past is None else past.replies

    def of(self, target: Target) -> Past | None:
        """Return the history of a target; without one, the length of the replies of other targets."""
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
        for call in seen:
            by_target.setdefault(call.target, []).append(call)
        pasts: dict[Target | None, Past | None] = {
            target: past_of(each, self._of_estimate(ledger, each)) if same else _of_others(each)
            for target, each in by_target.items()
        }
        return pasts | {None: past_of(seen)}

    def _of_estimate(self, ledger: Ledger, seen: list[Seen]) -> float:
        """Return the ratio of counted to estimated input tokens, from calls that can be rendered once more."""
        counted = {each.call: each.input_tokens for each in seen if each.input_tokens is not None}
        latest = sorted(counted)[-_RENDERED:]
        actual = estimated = 0
        for call, bound in ledger.calls.variables(latest).items():
            try:
                prompt = self._template.render(self._template.bind(bound))
            except PromptKitError:
                continue  # erased in part, for example
            estimated += estimate_input_tokens(prompt, self._template.spec.output)
            actual += counted[call]
        return actual / estimated if estimated else 1.0


def _of_others(seen: list[Seen]) -> Past | None:
    """Return the history of other versions without their caching: this version has another prefix."""
    past = past_of(seen)
    return None if past is None else replace(past, cached=None)
