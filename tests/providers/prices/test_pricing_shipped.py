"""Every model that the shipped provider files name has a price, or is said to have none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from promptkit._util import toml
from promptkit.config.provider_files import read_provider
from promptkit.providers.prices import Prices
from promptkit.types import Model, Provider

FILES: Final = sorted((Path(__file__).parents[3] / "providers").glob("*.toml"))
AT: Final = datetime(2026, 11, 22, tzinfo=UTC)
UNPRICED: Final = {"nvidia"}
"""No list knows its prices."""


def shipped() -> dict[str, tuple[Provider, Model]]:
    found: dict[str, tuple[Provider, Model]] = {}
    for path in FILES:
        provider = read_provider(path.stem, toml.parse(path.read_text("utf-8"), file=path.name))
        general = provider.open_model
        opened = [replace(general, id="vendor/any")] if general is not None and general.price else []
        found.update(
            {f"{path.stem}/{model.id}": (provider, model) for model in (*provider.models.values(), *opened)}
        )
    return found


SHIPPED: Final = shipped()


@pytest.mark.parametrize("target", SHIPPED)
def test_each_shipped_model_has_a_price(target: str) -> None:
    """By genai-prices or by its own file, so that a budget can hold it."""
    provider, model = SHIPPED[target]
    ceiling = Prices().max_cost_pico(provider, model, 1000, 100, AT)
    assert (ceiling is None) == (provider.name in UNPRICED)
