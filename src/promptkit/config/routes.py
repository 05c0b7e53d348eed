"""Routes and rules: read, with their targets checked against the catalog; two routes are built in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from promptkit._util.toml import Table
from promptkit.errors import UsageError, closest
from promptkit.routing.catalog import Catalog, parse_target
from promptkit.routing.plan import STRATEGIES, Rule, Rules
from promptkit.routing.reply_cache import read_age
from promptkit.types import OnContent, Route, Target

from .budgets import read_tag

LARGEST_WEIGHT = 1_000_000

DEFAULT = (
    Target("openai", "gpt-6-luna"),
    Target("anthropic", "claude-haiku-5-5"),
    Target("gemini", "gemini-2.5-flash-lite"),
)

DEMO = Route("demo", (Target("local", "smollm2-135m"),))


def read_routes(table: Table, catalog: Catalog) -> dict[str, Route]:
    """Read `[routes]`. If the file has no `default`, the built-in one applies; `demo` always exists.

    Raises:
        ConfigError: with file and line.
    """
    routes: dict[str, Route] = dict(_built_in(catalog))
    for name, route in table.items_tables():
        if name == DEMO.name:
            raise route.fail("the route demo is built in (the embedded model)", remedy="Use another name.")
        routes[name] = _route(name, route, catalog)
    return routes


def _built_in(catalog: Catalog) -> Mapping[str, Route]:
    """Return `demo`, and `default` with the targets that the user's provider files still have."""
    known = tuple(target for target in DEFAULT if _known(target, catalog))
    return {"demo": DEMO} | ({"default": Route("default", known)} if known else {})


def _known(target: Target, catalog: Catalog) -> bool:
    provider = catalog.providers.get(target.provider)
    return provider is not None and (target.model in provider.models or provider.open_models)


def _route(name: str, table: Table, catalog: Catalog) -> Route:
    plain = Route(name, ())
    strategy = _strategy(table)
    targets = _targets(table, catalog)
    route = Route(
        name=name,
        targets=targets,
        strategy=strategy,
        attempts=table.integer("attempts", plain.attempts, least=1),
        max_wait_s=_max_wait_s(table, plain.max_wait_s),
        outage_s=float(table.number("outage_s", plain.outage_s, least=0)),
        last_resort=_target(table, "last_resort", table.text("last_resort", None), catalog),
        on_content=table.choice("on_content", OnContent, plain.on_content),
        max_output_tokens=table.integer("max_output_tokens", plain.max_output_tokens, least=1),
        weights=_weights(table, strategy, len(targets)),
        cache_s=_age(table),
    )
    table.finish()
    return route


def _strategy(table: Table) -> str:
    strategy = table.text("strategy", "ordered")
    if strategy not in STRATEGIES:
        raise table.fail(f"unknown strategy {strategy!r}", "strategy", remedy=closest(strategy, STRATEGIES))
    return strategy


def _age(table: Table) -> float | None:
    """Read the maximum age of a cached reply; None if the cache is off."""
    age = table.text("cache", None)
    try:
        return None if age is None else read_age(age)
    except UsageError as cause:
        raise table.fail(cause.message, "cache", remedy='cache = "7d"') from None


def _weights(table: Table, strategy: str, count: int) -> tuple[int, ...]:
    """Read the weights of the targets: for the strategy `weighted`, which requires them, and for no other."""
    weights: object = table.raw("weights", None)
    if (strategy == "weighted") is (weights is None):
        problem, key = (
            ('the strategy "weighted" needs weights', "strategy")
            if weights is None
            else ('weights need the strategy "weighted"', "weights")
        )
        raise table.fail(problem, key, remedy='strategy = "weighted" and weights = [3, 1], one per target.')
    if weights is None:
        return ()
    given = cast("list[object]", weights) if isinstance(weights, list) else []
    shares = tuple(
        weight
        for weight in given
        if isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight <= LARGEST_WEIGHT
    )
    if len(shares) < len(given) or len(shares) != count or not any(shares):
        raise table.fail(
            "weights must be a list of whole numbers, one per target in their order, not all 0",
            "weights",
            remedy="A target of weight 0 is used only after the others failed.",
        )
    return shares


def _targets(table: Table, catalog: Catalog) -> tuple[Target, ...]:
    targets = tuple(_checked(table, "targets", text, catalog) for text in table.texts("targets"))
    if not targets:
        raise table.fail("a route needs a target", "targets", remedy='targets = ["openai/gpt-6-luna"]')
    if len(set(targets)) < len(targets):
        raise table.fail("a target is listed twice", "targets", remedy="For more retries, raise `attempts`.")
    return targets


def _max_wait_s(table: Table, default: float) -> float:
    """Read `max_wait_s`, or its old name `patience_s`, which is read until 1.0."""
    old, new = "patience_s", "max_wait_s"
    if old not in table:
        return float(table.number(new, default, least=0))
    if new in table:
        raise table.fail(f"{old} is the old name of {new}", old, remedy=f"Remove {old}.")
    return float(table.number(old, default, least=0))


def _target(table: Table, key: str, text: str | None, catalog: Catalog) -> Target | None:
    return None if text is None else _checked(table, key, text, catalog)


def _checked(table: Table, key: str, text: str, catalog: Catalog) -> Target:
    try:
        target = parse_target(text)
        catalog.pair(target)
    except UsageError as cause:
        raise table.fail(cause.message, key, remedy=cause.remedy) from None
    return target


def renamed_keys(table: Table) -> Iterator[str]:
    """Name the old keys in `[routes]`, with file and line."""
    for _, route in table.items_tables():
        if "patience_s" in route:
            error = route.fail("patience_s is now max_wait_s; the old name works until 1.0", "patience_s")
            yield str(error)


def read_rules(table: Table, routes: Mapping[str, Route], catalog: Catalog) -> Rules:
    """Read `[rules."NAME=VALUE"]`.

    Raises:
        ConfigError: with file and line.
    """
    return Rules(tuple(_rule(text, rule, routes, catalog) for text, rule in table.items_tables()))


def _rule(text: str, table: Table, routes: Mapping[str, Route], catalog: Catalog) -> Rule:
    rule = Rule(
        when=read_tag(text, table),
        allow=None if table.raw("allow", None) is None else _members(table, "allow", catalog),
        deny=_members(table, "deny", catalog),
        route=_route_name(table, routes),
    )
    table.finish()
    if rule.allow == ():
        raise table.fail("this rule allows nothing", "allow", remedy='allow = ["anthropic"]')
    if not (rule.allow or rule.deny or rule.route):
        raise table.fail("this rule is empty", remedy="Give it allow, deny or route.")
    return rule


def _route_name(table: Table, routes: Mapping[str, Route]) -> str | None:
    name = table.text("route", None)
    if name is not None and name not in routes:
        raise table.fail(f"unknown route {name!r}", "route", remedy=closest(name, routes))
    return name


def _members(table: Table, key: str, catalog: Catalog) -> tuple[str, ...]:
    """Read a list of providers and targets that the catalog knows."""
    names = table.texts(key, ())
    for name in names:
        try:
            if "/" in name:
                catalog.pair(parse_target(name))
            else:
                catalog.provider(name)
        except UsageError as cause:
            raise table.fail(cause.message, key, remedy=cause.remedy) from None
    return names
