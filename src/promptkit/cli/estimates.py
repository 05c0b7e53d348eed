"""What calls can cost at most, before they are made."""

from __future__ import annotations

from datetime import UTC, datetime

from promptkit.engine.context import Session
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import max_input_tokens
from promptkit.templates.template import Template
from promptkit.types import Prompt, Route, Target


class Ceilings:
    """The ceilings of a template's calls at one target, as the engine will hold them.

    Args:
        session: the providers and their models.
        template: what is asked.
        route: whose output limit serves where the template names none.
        target: who is asked.
    """

    def __init__(self, session: Session, template: Template, route: Route, target: Target) -> None:
        self._provider, self._model = session.settings.catalog.pair(target)
        self._limit = output_limit(session.params(template, route), self._model)
        self._schema = template.spec.output
        self._prices = Prices()
        self._now = datetime.now(UTC)

    def pico(self, prompt: Prompt) -> int | None:
        """The most that one call can cost, in pico-USD; None where no price is known."""
        tokens = max_input_tokens(prompt, self._schema)
        return self._prices.max_cost_pico(self._provider, self._model, tokens, self._limit, self._now)
