"""What the rooms of use share in their tests: a studio with a project, a simulator and a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from studio import BIG, Studio

from promptkit.simulator.scenario import Scenario
from promptkit.simulator.server import Simulator


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the newest schema: copied, it saves each test the migrations."""
    from promptkit.ledger.ledger import Ledger

    path = tmp_path_factory.mktemp("blank") / "promptkit.db"
    Ledger.open(path).close()
    return path


@pytest.fixture
async def studio(tmp_path: Path, blank_database: Path) -> AsyncIterator[Studio]:
    """A project of its own whose providers are a simulator on loopback."""
    async with Simulator(seed=7, scenario=Scenario(models=(BIG,))) as sim:
        yield Studio.build(tmp_path, sim, blank_database)
