"""A machine of one's own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A home and a project, both empty."""
    return Machine(tmp_path)
