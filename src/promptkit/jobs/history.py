"""The targets as a quote sees them: prices, limits, and what the ledger has seen of a skeleton there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from promptkit.adapters import output_limit
from promptkit.batch.figures import Offer
from promptkit.batch.past import Past, Seen, past_of
from promptkit.errors import PromptKitError
from promptkit.pricing import Prices
from promptkit.routing.limits import limits_of
from promptkit.session import Session
from promptkit.templates import Skeleton
from promptkit.tokens import estimate_input_tokens
from promptkit.types import Params, Route, Target

if TYPE_CHECKING:
    from promptkit.ledger import Ledger

_RENDERED: Final = 40
"""So many calls of the past are rendered again, to see how many tokens were counted to one estimated."""


class Offers:
    """The targets as rows of a skeleton would be sent to them."""

    def __init__(self, session: Session, skeleton: Skeleton, history: History) -> None:
        self._session = session
        self._skeleton = skeleton
        self._history = history
        self._prices = Prices()
        self._now = datetime.now(UTC)

    def of(self, target: Target, route: Route, weight: int = 1) -> Offer:
        """A target on a route: its price, its limits, and what it was like before."""
        provider, model = self._session.settings.catalog.pair(target)
        params: Params = self._session.params(self._skeleton, route)
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
    """What the ledger has of a skeleton, read when it is first asked; of other versions, where this one is new."""

    def __init__(self, skeleton: Skeleton, ledger: Ledger | None) -> None:
        self._skeleton = skeleton
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
        seen = ledger.seen_of(self._skeleton.digest)
        same = bool(seen)
        if not same:
            seen = ledger.seen_of_other_versions(self._skeleton.ref.name)
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
        for call, bound in ledger.variables_of(latest).items():
            try:
                prompt = self._skeleton.render(self._skeleton.bind(bound))
            except PromptKitError:
                continue  # erased in part, say: it tells nothing
            estimated += estimate_input_tokens(prompt, self._skeleton.spec.output)
            told += counted[call]
        return told / estimated if estimated else 1.0


def _of_others(seen: list[Seen]) -> Past | None:
    """What other versions' answers were like; how much of them was cached tells nothing of a new beginning."""
    past = past_of(seen)
    return None if past is None else replace(past, cached=None)
