"""What clients pay: `[clients.NAME]`, exact to the pico-dollar."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from promptkit.routing.budgets import pico_of_usd
from promptkit.toml import Table


class Per(StrEnum):
    """What a client pays for: a deliverable, a row of a job that was done, a call that was answered."""

    DELIVERABLE = "deliverable"
    ROW = "row"
    CALL = "call"


@dataclass(frozen=True, slots=True)
class Rate:
    """What a client pays, in pico-USD, and for what."""

    pico: int
    per: Per = Per.DELIVERABLE


def read_clients(table: Table) -> dict[str, Rate]:
    """Read `[clients.NAME]`; the name is the value of the tag `client`.

    Raises:
        ConfigError: with file and line.
    """
    rates: dict[str, Rate] = {}
    for name, one in table.items_tables():
        amount = one.number("rate_usd")
        try:
            rates[name] = Rate(pico_of_usd(amount), one.choice("per", Per, Per.DELIVERABLE))
        except ValueError as cause:
            raise one.fail(f"rate_usd {cause}", "rate_usd") from None
        one.finish()
    return rates
