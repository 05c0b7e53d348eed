"""The order of a call's targets under its route's strategy, from what the ledger knows of recent replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from promptkit.ledger.ledger import Ledger
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import estimate_input_tokens, max_input_tokens
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import Plan
from promptkit.routing.plan import STRATEGIES, Facts
from promptkit.types import Call, Target, Usage

from .calls import CallRequest

LATENCY_KNOWN_S = 900.0
"""A latency counts for this long; after that it is unknown."""

_LATENCY_FRESH_S = 5.0

_USAGE_FRESH_S = 30.0

_TEMPLATES = 256


@dataclass(frozen=True, slots=True)
class _TemplateUsage:
    """The usage of one template's calls.

    `input_ratio` is the number of input tokens per token of the maximum. `output_tokens` is the mean
    length of a reply by target, and under None over all of them.
    """

    read_s: float
    input_ratio: float
    output_tokens: Mapping[Target | None, float]

    def output(self, target: Target, limit: int) -> int:
        """Return the expected length of a reply: the target's mean, else the mean of all, else the limit."""
        mean = self.output_tokens.get(target, self.output_tokens.get(None, limit))
        return min(round(mean), limit)


class TargetOrder:
    """Orders the targets of each call by its route's strategy.

    Args:
        catalog: providers and models.
        ledger: the latency and length of recent replies; read every few seconds.
        prices: what a prompt would cost.
        clock: seconds since the epoch.
        draw: random numbers in [0, 1).
    """

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        prices: Prices,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._prices = prices
        self._clock = clock
        self._draw = draw
        self._latency: dict[Target, tuple[float, float]] = {}
        """The latency of each target in seconds, and when it was read."""
        self._latency_read_s = 0.0
        self._usage: dict[str, _TemplateUsage] = {}

    def plan(self, request: CallRequest) -> Plan:
        """Return the plan of a call, its targets in the order in which they are tried."""
        plan = request.plan
        if plan.strategy == "ordered" or len(plan.targets) < 2:  # noqa: PLR2004 - a single target is in order
            return plan
        targets = STRATEGIES[plan.strategy](plan.targets, self._facts(request))
        return plan if targets == plan.targets else replace(plan, targets=targets)

    def _facts(self, request: CallRequest) -> Facts:
        """Return what the strategy of a call goes by."""
        if request.plan.strategy == "cheapest":
            return Facts(cost_pico=self._costs(request))
        if request.plan.strategy == "fastest":
            return Facts(self._draw(), latency_s=self._latencies())
        return Facts(self._draw())

    def _latencies(self) -> dict[Target, float]:
        now_s = self._clock()
        if not 0 <= now_s - self._latency_read_s < _LATENCY_FRESH_S:
            self._read_latencies(now_s)
        return {target: latency_s for target, (latency_s, _) in self._latency.items()}

    def _read_latencies(self, now_s: float) -> None:
        """Read the ledger; a target without recent attempts there keeps its latency for a while."""
        self._latency_read_s = now_s
        latencies = self._ledger.reports.latencies(int((now_s - LATENCY_KNOWN_S) * 1e6))
        kept = {
            target: known
            for target, known in self._latency.items()
            if 0 <= now_s - known[1] < LATENCY_KNOWN_S
        }
        self._latency = kept | {target: (latency_s, now_s) for target, latency_s in latencies.items()}

    def _costs(self, request: CallRequest) -> dict[Target, int]:
        """Return what the call is expected to cost at each target, in pico-USD, where that is known."""
        call = request.call
        now_s = self._clock()
        most = max_input_tokens(call.prompt, call.schema)
        usage = self._usage_of(call, most, now_s)
        input_tokens = round(most * usage.input_ratio)
        at = datetime.fromtimestamp(now_s, UTC)
        costs: dict[Target, int] = {}
        for planned in request.plan.targets:
            provider, model = self._catalog.pair(planned.target)
            limit = output_limit(call.params, model)
            output_tokens = usage.output(planned.target, limit) * max(1, len(request.members))
            card = self._prices.card(provider, model, at)
            expected = Usage(input_tokens, min(output_tokens, limit))
            pico = None if card is None else card.pico(expected, call.tier)
            if pico is not None:
                costs[planned.target] = pico
        return costs

    def _usage_of(self, call: Call, most: int, now_s: float) -> _TemplateUsage:
        """Return the usage of the call's template. Counting a prompt's tokens takes 0.2 ms: one counts for all."""
        digest = call.prompt.template_digest
        usage = self._usage.get(digest)
        if usage is None or not 0 <= now_s - usage.read_s < _USAGE_FRESH_S:
            if len(self._usage) >= _TEMPLATES:
                self._usage.clear()
            estimate = estimate_input_tokens(call.prompt, call.schema)
            usage = _TemplateUsage(now_s, estimate / most, self._ledger.reports.output_tokens(digest))
            self._usage[digest] = usage
        return usage
