"""What a route's strategy goes by, gathered for each call: prices, the ledger's latest answers, the dice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from promptkit import adapters
from promptkit.catalog import Catalog
from promptkit.ledger import Ledger
from promptkit.pricing import Prices
from promptkit.routing.flow import Plan
from promptkit.routing.strategies import STRATEGIES, Facts
from promptkit.tokens import ceiling_input_tokens, estimate_input_tokens
from promptkit.types import Call, Target, Usage

from .words import Edge, Work

LATENCY_KNOWN_S: Final = 900.0
"""How long an answer's latency is held to be a target's; after that it is unknown again."""
_LATENCY_FRESH_S: Final = 5.0
_HABIT_FRESH_S: Final = 30.0
_HABITS: Final = 256


@dataclass(frozen=True, slots=True)
class _Habit:
    """What the prompts and answers of one skeleton are like.

    `of_ceiling` is how many input tokens there are to one of the ceiling's; `output_tokens` is
    the mean answer by target, and under None over all of them.
    """

    read_s: float
    of_ceiling: float
    output_tokens: Mapping[Target | None, float]

    def output(self, target: Target, limit: int) -> int:
        """How long an answer to expect: as this target's were, else as all were, else the limit."""
        mean = self.output_tokens.get(target, self.output_tokens.get(None, limit))
        return min(round(mean), limit)


class Chooser:
    """Puts the targets of each call in the order of its route's strategy.

    Args:
        catalog: providers and models.
        ledger: what answers took and how long they were lately, asked every few seconds.
        prices: what a prompt would cost.
        edge: clock and dice.
    """

    def __init__(self, catalog: Catalog, ledger: Ledger, prices: Prices, edge: Edge) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._prices = prices
        self._edge = edge
        self._latency: dict[Target, tuple[float, float]] = {}
        self._latency_read_s = 0.0
        self._habits: dict[str, _Habit] = {}
        self._gather: Mapping[str, Callable[[Work], Facts]] = {
            "cheapest": self._costs,
            "fastest": self._latencies,
            "weighted": self._dice,
        }

    def plan(self, work: Work) -> Plan:
        """The plan of a call, its hops in the order in which they are to be tried."""
        plan = work.plan
        gather = self._gather.get(plan.strategy)
        if gather is None or len(plan.hops) < 2:  # noqa: PLR2004 - one alone is in order
            return plan
        hops = STRATEGIES[plan.strategy](plan.hops, gather(work))
        return plan if hops == plan.hops else replace(plan, hops=hops)

    def _dice(self, work: Work) -> Facts:
        del work
        return Facts(self._edge.draw())

    # --------------------------------------------------------------------- latency

    def _latencies(self, work: Work) -> Facts:
        del work
        now_s = self._edge.clock()
        if not 0 <= now_s - self._latency_read_s < _LATENCY_FRESH_S:
            self._read_latencies(now_s)
        return Facts(self._edge.draw(), latency_s={target: one for target, (one, _) in self._latency.items()})

    def _read_latencies(self, now_s: float) -> None:
        """Ask the ledger; one that a busy night pushed out of its latest attempts is remembered for a while."""
        self._latency_read_s = now_s
        found = self._ledger.recent_latencies(int((now_s - LATENCY_KNOWN_S) * 1e6))
        kept = {
            target: known
            for target, known in self._latency.items()
            if 0 <= now_s - known[1] < LATENCY_KNOWN_S
        }
        self._latency = kept | {target: (latency_s, now_s) for target, latency_s in found.items()}

    # ------------------------------------------------------------------------ cost

    def _costs(self, work: Work) -> Facts:
        call = work.call
        now_s = self._edge.clock()
        ceiling = ceiling_input_tokens(call.prompt, call.schema)
        habit = self._habit(call, ceiling, now_s)
        input_tokens = round(ceiling * habit.of_ceiling)
        at = datetime.fromtimestamp(now_s, UTC)
        costs: dict[Target, int] = {}
        for hop in work.plan.hops:
            provider, model = self._catalog.pair(hop.target)
            limit = adapters.output_limit(call.params, model)
            answer = habit.output(hop.target, limit) * max(1, len(work.members))
            usage = Usage(input_tokens, min(answer, limit))
            card = self._prices.card(provider, model, at)
            pico = None if card is None else card.pico(usage, call.tier)
            if pico is not None:
                costs[hop.target] = pico
        return Facts(cost_pico=costs)

    def _habit(self, call: Call, ceiling: int, now_s: float) -> _Habit:
        """Of the call's skeleton. Counting a prompt's tokens costs 0.2 ms: one stands for all."""
        digest = call.prompt.template_digest
        habit = self._habits.get(digest)
        if habit is None or not 0 <= now_s - habit.read_s < _HABIT_FRESH_S:
            if len(self._habits) >= _HABITS:
                self._habits.clear()
            estimate = estimate_input_tokens(call.prompt, call.schema)
            habit = _Habit(now_s, estimate / ceiling, self._ledger.recent_output_tokens(digest))
            self._habits[digest] = habit
        return habit
