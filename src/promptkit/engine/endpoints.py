"""Endpoints: what a process needs to send a call to a target and to price it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from promptkit._util.text import sha256_text
from promptkit.config.keys import Keys
from promptkit.config.settings import Settings
from promptkit.providers.adapter import Adapter
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import max_input_tokens
from promptkit.providers.transport import Transport, open_transport
from promptkit.providers.wire_formats import for_provider, sent_schema
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import Plan
from promptkit.types import Call, Cost, Failure, Model, Outcome, Provider, Target, WireRequest


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A target that can be asked: its provider and model, wire format, transport and prices."""

    provider: Provider
    model: Model
    adapter: Adapter
    transport: Transport
    prices: Prices

    def encode(self, call: Call) -> WireRequest | Failure:
        """Return the request for a call; a failure where the target cannot take it."""
        return self.adapter.encode(call, self.provider, self.model)

    def max_cost_pico(self, call: Call, at: datetime) -> int | None:
        """Return the most that one attempt can cost, in pico-USD; None without a known price.

        It uses the sizes that will be sent and the price at `at`.
        """
        return self.prices.max_cost_pico(
            self.provider,
            self.model,
            max_input_tokens(call.prompt, sent_schema(call.schema, self.provider)),
            output_limit(call.params, self.model),
            at,
            call.tier,
        )

    def cost(self, outcome: Outcome, at: datetime) -> Cost | None:
        """Return what an attempt cost; None where that is unknown."""
        if isinstance(outcome, Failure) and not outcome.billed:
            return Cost(0, "not billed")
        return self.prices.cost(
            self.provider, self.model, outcome.usage, outcome.served_model, outcome.tier, at
        )


class Endpoints:
    """The endpoints of a process, each opened when it is first used; one transport per provider.

    Args:
        settings: providers and keys.
        prices: what replies cost.
    """

    def __init__(self, settings: Settings, prices: Prices) -> None:
        self._settings = settings
        self._prices = prices
        self._endpoints: dict[Target, Endpoint] = {}
        self._transports: dict[str, Transport] = {}

    def get(self, target: Target) -> Endpoint:
        """Return the endpoint of a target.

        Raises:
            ConfigError: its transport can't be opened.
        """
        endpoint = self._endpoints.get(target)
        if endpoint is None:
            provider, model = self._settings.catalog.pair(target)
            transport = self._transports.get(provider.name)
            if transport is None:
                transport = open_transport(provider, self._settings.keys.get(provider))
                self._transports[provider.name] = transport
            endpoint = Endpoint(provider, model, for_provider(provider), transport, self._prices)
            self._endpoints[target] = endpoint
        return endpoint

    def unpriced(self, plan: Plan, at: datetime) -> Target | None:
        """Return the first target of a plan without a price; None where all have one. Opens nothing."""
        targets = [planned.target for planned in plan.targets]
        if plan.last_resort is not None:
            targets.append(plan.last_resort)
        for target in targets:
            provider, model = self._settings.catalog.pair(target)
            if self._prices.card(provider, model, at) is None:
                return target
        return None

    async def aclose(self) -> None:
        """Close every transport."""
        transports, self._transports = self._transports, {}
        self._endpoints.clear()
        await asyncio.gather(*(transport.aclose() for transport in transports.values()))


def accounts_of(catalog: Catalog, keys: Keys) -> dict[str, str]:
    """Return the accounts in use, by provider, as `address:key`: two fingerprints that cannot be reversed.

    A part is empty where there is none; a provider with neither has the empty account.
    """
    return {
        provider.name: account_of(provider.base_url, keys.get(provider))
        for provider in catalog.providers.values()
    }


def account_of(base_url: str | None, key: str | None) -> str:
    """Return what identifies an account in the ledger; another address is another account."""
    return f"{_fingerprint(base_url)}:{_fingerprint(key)}" if base_url or key else ""


def _fingerprint(text: str | None) -> str:
    return sha256_text(text)[:12] if text else ""
