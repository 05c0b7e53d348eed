"""What it takes to ask a target: its provider, model, adapter, and one transport a provider."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from promptkit import adapters
from promptkit.adapters import Adapter
from promptkit.config import Settings
from promptkit.transport import Transport, open_transport
from promptkit.types import Model, Provider, Target


@dataclass(frozen=True, slots=True)
class Lane:
    """What it takes to ask one target."""

    provider: Provider
    model: Model
    adapter: Adapter
    transport: Transport


class Lanes:
    """The lanes of a process, each opened when it is first asked for.

    Args:
        settings: providers and keys.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lanes: dict[Target, Lane] = {}
        self._transports: dict[str, Transport] = {}

    def to(self, target: Target) -> Lane:
        """The lane to a target.

        Raises:
            ConfigError: its transport can't be opened.
        """
        lane = self._lanes.get(target)
        if lane is None:
            provider, model = self._settings.catalog.pair(target)
            transport = self._transports.get(provider.name)
            if transport is None:
                transport = open_transport(provider, self._settings.keys.get(provider))
                self._transports[provider.name] = transport
            lane = Lane(provider, model, adapters.for_provider(provider), transport)
            self._lanes[target] = lane
        return lane

    async def aclose(self) -> None:
        """Close every transport."""
        transports, self._transports = self._transports, {}
        self._lanes.clear()
        await asyncio.gather(*(transport.aclose() for transport in transports.values()))
