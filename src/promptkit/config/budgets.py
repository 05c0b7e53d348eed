"""Budgets and client rates, exact to the pico-dollar."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from promptkit._util.toml import Table
from promptkit.routing.budgets import Budgets, Cap, Caps, Per, Tag, pico_of_usd


def read_budgets(table: Table) -> Budgets:
    """Read `[budgets]` and its `[budgets.tags."NAME=VALUE"]`.

    Raises:
        ConfigError: with file and line.
    """
    caps = _caps(table)
    tags: dict[Tag, Caps] = {}
    for text, tag_table in table.table("tags").items_tables():
        tags[read_tag(text, tag_table)] = _caps(tag_table)
        tag_table.finish()
    table.finish()
    return Budgets(caps.job, caps.day, caps.month, tags)


def read_tag(text: str, table: Table) -> Tag:
    """Read the tag that a table is named after.

    Raises:
        ConfigError: it is not `name=value`.
    """
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise table.fail(f"{text!r} is not a tag", remedy='Write its name and value: "client=barly".')
    return name.strip(), value.strip()


def _caps(table: Table) -> Caps:
    return Caps(_cap(table, Per.JOB), _cap(table, Per.DAY), _cap(table, Per.MONTH))


def _cap(table: Table, per: Per) -> Cap:
    hard, soft = f"per_{per}_usd", f"soft_per_{per}_usd"
    cap = Cap(_pico(table, hard), _pico(table, soft))
    if cap.hard_pico is not None and cap.soft_pico is not None and cap.soft_pico >= cap.hard_pico:
        raise table.fail(
            f"{soft} is not below {hard}", soft, remedy="A soft cap must be reached before the hard cap."
        )
    return cap


def _pico(table: Table, key: str) -> int | None:
    amount = table.number(key, None)
    if amount is None:
        return None
    try:
        return pico_of_usd(amount)
    except ValueError as cause:
        raise table.fail(f"{key} {cause}", key) from None


class RateUnit(StrEnum):
    """What a client pays for: a deliverable with a reply, a row of a job with a result, a call with a reply."""

    DELIVERABLE = "deliverable"
    ROW = "row"
    CALL = "call"


@dataclass(frozen=True, slots=True)
class Rate:
    """What a client pays per unit, in pico-USD."""

    pico: int
    per: RateUnit = RateUnit.DELIVERABLE


def read_clients(table: Table) -> dict[str, Rate]:
    """Read `[clients.NAME]`; the name is the value of the tag `client`.

    Raises:
        ConfigError: with file and line.
    """
    rates: dict[str, Rate] = {}
    for name, client in table.items_tables():
        amount = client.number("rate_usd")
        try:
            rates[name] = Rate(pico_of_usd(amount), client.choice("per", RateUnit, RateUnit.DELIVERABLE))
        except ValueError as cause:
            raise client.fail(f"rate_usd {cause}", "rate_usd") from None
        client.finish()
    return rates
