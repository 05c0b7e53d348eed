"""`[clients.NAME]`: what clients pay."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptkit.config.budgets import Rate, RateUnit
from promptkit.config.loading import load
from promptkit.errors import ConfigError


def _rates(folder: Path, text: str) -> object:
    (folder / "promptkit.toml").write_text(text, encoding="utf-8")
    return load(folder / "promptkit.toml", env={}, cwd=folder, home=folder).clients


def test_a_rate_is_exact_and_for_a_deliverable_unless_said(tmp_path: Path) -> None:
    """USD become pico-USD."""
    text = '[clients.barly]\nrate_usd = 12.05\n[clients."lumé"]\nrate_usd = 0\nper = "call"\n'
    assert _rates(tmp_path, text) == {
        "barly": Rate(12_050_000_000_000, RateUnit.DELIVERABLE),
        "lumé": Rate(0, RateUnit.CALL),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rate_usd = -1", "rate_usd must lie between"),
        ('per = "row"', "rate_usd is missing"),
        ('rate_usd = 1\nper = "hour"', "per can't be 'hour'"),
        ("rate_usd = 1\nrats = 2", "unknown key clients.barly.rats"),
    ],
)
def test_what_can_not_stand_names_its_line(tmp_path: Path, text: str, told: str) -> None:
    """A negative, missing or unknown value is a configuration error."""
    with pytest.raises(ConfigError, match=told):
        _rates(tmp_path, f"[clients.barly]\n{text}\n")
