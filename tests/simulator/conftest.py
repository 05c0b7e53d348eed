"""A simulator of seed 7 with the SDKs' clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sim_kit import Clients, clients_of

from promptkit.simulator.server import Simulator


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with Simulator(seed=7) as sim, clients_of(sim) as opened:
        yield opened
