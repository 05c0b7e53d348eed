"""The estimated cost of calls that are not sent yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from promptkit.engine.context import Session
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import estimate_input_tokens, max_input_tokens
from promptkit.templates.template import Template
from promptkit.types import Prompt, Route, Usage


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """The cost of one or more calls, in pico-USD; None if a price is unknown.

    `about_pico` is at the first target, with half of the allowed output. `at_most_pico` is at the
    most expensive target with all of the output, if no call needs a second attempt.
    """

    about_pico: int | None
    at_most_pico: int | None


def estimate_call(
    session: Session, route: Route, prices: Prices, template: Template, prompt: Prompt
) -> CallEstimate:
    """Estimate the cost of a call."""
    params, schema, now = session.params(template, route), template.spec.output, datetime.now(UTC)
    targets = [session.settings.catalog.pair(target) for target in route.targets]
    max_tokens = max_input_tokens(prompt, schema)
    max_costs = [
        prices.max_cost_pico(provider, model, max_tokens, output_limit(params, model), now)
        for provider, model in targets
    ]
    provider, model = targets[0]
    usage = Usage(estimate_input_tokens(prompt, schema), output_limit(params, model) // 2)
    about = prices.cost(provider, model, usage, None, None, now)
    known = [pico for pico in max_costs if pico is not None]
    return CallEstimate(
        None if about is None else about.pico,
        max(known) if len(known) == len(max_costs) else None,
    )


def add_estimates(estimates: Iterable[CallEstimate]) -> CallEstimate:
    """Return the sum of estimates; unknown if one of them is unknown."""
    about_pico: int | None = 0
    at_most_pico: int | None = 0
    for each in estimates:
        about_pico = None if about_pico is None or each.about_pico is None else about_pico + each.about_pico
        at_most_pico = (
            None if at_most_pico is None or each.at_most_pico is None else at_most_pico + each.at_most_pico
        )
    return CallEstimate(about_pico, at_most_pico)
