"""What a batch will cost and take, before anything is sent.

Every row is rendered, and its ceiling counted: the worst case is a true bound over all rows, at
the dearest target that each may be asked of, for one attempt a row. What is expected stands on the
ledger's history of the same skeleton: how long its answers were at each target, how many tokens
were counted to one estimated, what a prompt cache served, what failed attempts cost. Where there is
none, an answer is taken to be half as long as it may be, the cache to serve what prompts begin with
to all rows but the first, and the quote says that it rests on no answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptkit.routing.strategies import STRATEGIES
from promptkit.types import Target

from .figures import Basis, Figures, Load, added, figures_at, mixed, shares, total
from .pack_saving import Packing


@dataclass(frozen=True, slots=True)
class Account:
    """A hard cap that rows count under: what is left of it now, in pico-USD."""

    scope: str
    cap_pico: int
    left_pico: int


@dataclass(frozen=True, slots=True)
class TargetQuote:
    """What it would be if this target answered all rows that may go to it; `answers` are known of it."""

    target: Target
    rows: int
    answers: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class StrategyQuote:
    """What it would be under a strategy; `first` are the targets that it asks first."""

    strategy: str
    first: tuple[Target, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Need:
    """A hard cap, and the worst case of the rows under it; None where a price is unknown."""

    scope: str
    cap_pico: int
    left_pico: int
    worst_pico: int | None

    @property
    def fits(self) -> bool:
        """Whether the rows surely fit; nothing is sure without a price."""
        return self.worst_pico is not None and self.worst_pico <= self.left_pico


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of an input: `done` ones are paid, `duplicates` are sent as often as they are there."""

    rows: int = 0
    to_send: int = 0
    done: int = 0
    invalid: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """What a batch would cost and take. Money is pico-USD, None where a price is unknown.

    Attributes:
        template: the version, as `ugc/script@2`.
        template_digest: its digest.
        job: the job that would go on; None where one would begin.
        counts: the rows.
        strategy: the route's own: `figures` are by it.
        figures: the whole.
        usual_pico: a cap with which such batches usually come to their end: long answers, lost
            attempts, and room for the ceiling of one row.
        answers: how many answers of the ledger it rests on.
        targets: by target, as if it answered all.
        strategies: by strategy.
        needs: the hard caps that are in force.
        manner: how the table is written, where that had to be detected.
        packing: what packing would save; all other figures are of rows that go alone. None where no
            row is sent.
    """

    template: str
    template_digest: str
    job: str | None
    counts: Counts
    strategy: str
    figures: Figures
    usual_pico: int | None
    answers: int
    targets: tuple[TargetQuote, ...]
    strategies: tuple[StrategyQuote, ...]
    needs: tuple[Need, ...] = ()
    manner: str = ""
    packing: Packing | None = None

    @property
    def short(self) -> tuple[Need, ...]:
        """The caps that the worst case doesn't fit; one without a price is refused elsewhere."""
        return tuple(need for need in self.needs if need.worst_pico is not None and not need.fits)


def make_quote(  # noqa: PLR0913 - what a quote is made of
    *,
    template: str,
    template_digest: str,
    job: str | None,
    counts: Counts,
    loads: Sequence[Load],
    accounts: Sequence[Account],
    basis: Basis,
    answers: int,
    manner: str = "",
    packing: Packing | None = None,
) -> Quote:
    """Put a quote together.

    Args:
        template: the version.
        template_digest: its digest.
        job: the job that would go on.
        counts: what was read.
        loads: the rows, by where they may go and what they count in.
        accounts: the hard caps in force.
        basis: how tokens were estimated.
        answers: how many answers of the ledger the estimates stand on.
        manner: how the table is written.
        packing: what packing would save.
    """
    by_load = [{offer.target: figures_at(offer, load, basis) for offer in load.offers} for load in loads]
    worsts = [load.worst_pico() for load in loads]
    own = [
        mixed(load, load.strategy, each, worst)
        for load, each, worst in zip(loads, by_load, worsts, strict=True)
    ]
    figures = added(own)
    largest = max((load.largest_pico() for load in loads), default=0)
    usual = _within(figures.worst_pico, None if figures.high_pico is None else figures.high_pico + largest)
    return Quote(
        template=template,
        template_digest=template_digest,
        job=job,
        counts=counts,
        strategy=" ".join(dict.fromkeys(load.strategy for load in loads)) or "ordered",
        figures=figures,
        usual_pico=usual,
        answers=answers,
        targets=_targets(loads, by_load),
        strategies=tuple(_strategies(loads, by_load, worsts)),
        needs=tuple(_need(account, loads, worsts) for account in accounts),
        manner=manner,
        packing=packing,
    )


def _within(worst_pico: int | None, pico: int | None) -> int | None:
    """An amount, which needn't pass the worst case."""
    return pico if pico is None or worst_pico is None else min(pico, worst_pico)


def _need(account: Account, loads: Sequence[Load], worsts: Sequence[int | None]) -> Need:
    mine = [worst for load, worst in zip(loads, worsts, strict=True) if account.scope in load.scopes]
    return Need(account.scope, account.cap_pico, account.left_pico, total(mine))


def _targets(loads: Sequence[Load], by_load: Sequence[Mapping[Target, Figures]]) -> tuple[TargetQuote, ...]:
    rows: Counter[Target] = Counter()
    answers: dict[Target, int] = {}
    parts: dict[Target, list[Figures]] = {}
    for load, figures in zip(loads, by_load, strict=True):
        for offer in load.offers:
            rows[offer.target] += load.rows
            answers[offer.target] = 0 if offer.past is None else offer.past.answers
            parts.setdefault(offer.target, []).append(figures[offer.target])
    return tuple(
        TargetQuote(target, rows[target], answers[target], added(each)) for target, each in parts.items()
    )


def _strategies(
    loads: Sequence[Load], by_load: Sequence[Mapping[Target, Figures]], worsts: Sequence[int | None]
) -> list[StrategyQuote]:
    found: list[StrategyQuote] = []
    for strategy in STRATEGIES:
        parts: list[Figures] = []
        first: dict[Target, None] = {}
        for load, figures, worst in zip(loads, by_load, worsts, strict=True):
            parts.append(mixed(load, strategy, figures, worst))
            first.update(dict.fromkeys(shares(strategy, load.offers, figures)))
        found.append(StrategyQuote(strategy, tuple(first), added(parts)))
    return found
