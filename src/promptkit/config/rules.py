"""Rules: read, each held against the routes and the catalog."""

from __future__ import annotations

from collections.abc import Mapping

from promptkit.catalog import Catalog, parse_target
from promptkit.errors import UsageError, closest
from promptkit.routing.rules import Rule, Rules
from promptkit.toml import Table
from promptkit.types import Route

from .budgets import read_tag


def read_rules(table: Table, routes: Mapping[str, Route], catalog: Catalog) -> Rules:
    """Read `[rules."NAME=VALUE"]`.

    Raises:
        ConfigError: with file and line.
    """
    rules = tuple(_rule(text, one, routes, catalog) for text, one in table.items_tables())
    return Rules(rules)


def _rule(text: str, table: Table, routes: Mapping[str, Route], catalog: Catalog) -> Rule:
    rule = Rule(
        when=read_tag(text, table),
        allow=None if table.raw("allow", None) is None else _places(table, "allow", catalog),
        deny=_places(table, "deny", catalog),
        route=_route(table, routes),
    )
    table.finish()
    if rule.allow == ():
        raise table.fail("this rule allows nothing", "allow", remedy='allow = ["anthropic"]')
    if not (rule.allow or rule.deny or rule.route):
        raise table.fail("this rule says nothing", remedy="Give it allow, deny or route.")
    return rule


def _route(table: Table, routes: Mapping[str, Route]) -> str | None:
    name = table.text("route", None)
    if name is not None and name not in routes:
        raise table.fail(f"unknown route {name!r}", "route", remedy=closest(name, routes))
    return name


def _places(table: Table, key: str, catalog: Catalog) -> tuple[str, ...]:
    """Providers and targets that the catalog knows."""
    places = table.texts(key, ())
    for place in places:
        try:
            if "/" in place:
                catalog.pair(parse_target(place))
            else:
                catalog.provider(place)
        except UsageError as cause:
            raise table.fail(cause.what, key, remedy=cause.remedy) from None
    return places
