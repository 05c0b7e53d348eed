from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledger_making import SOURCE

from promptkit.ledger.ledger import Ledger


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "promptkit.db"


@pytest.fixture
async def ledger(database: Path) -> AsyncIterator[Ledger]:
    with Ledger.open(database, clock=lambda: 5_000) as opened:
        await opened.calls.store_templates([SOURCE])
        yield opened
