"""`promptkit providers check`: keys, addresses and models, and with --live one short call each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import usd_text
from promptkit.engine.calls import make_reply
from promptkit.errors import ExitCode, LedgerError, PromptKitError, counted
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.replies import from_reply, from_transport_failure
from promptkit.providers.tokens import max_input_tokens
from promptkit.providers.transport import open_transport
from promptkit.routing.health import CircuitKind
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.types import Fault, Json, Provider, Reply, Route, Target, TransportFailure, WireReply, dollars

from .list import named_providers

if TYPE_CHECKING:
    from promptkit.engine.context import Session

_LIVE_CAP_PICO = 10**10
"""The cap of all live calls of one command: $0.01."""

_NAMED_MODELS = 3

_LIVE_TEMPLATE = """\
+++
description = "One word, to check that a provider replies"
[params]
max_output_tokens = 64
reasoning = "off"
+++
{% message "user" %}Answer with the one word OK.{% endmessage %}
"""

_MEANINGS = {
    Fault.AUTH: "the key is refused",
    Fault.TRANSIENT: "can't be reached",
    Fault.RATE_LIMIT: "available, but rate-limited",
    Fault.QUOTA: "the account is out of credit",
}

Live = Annotated[
    bool, Option("--live", help="Also make one short call each. The cost is printed first: $0.01 at most.")
]


def check(cli: Cli, names: options.Providers = None, live: Live = False) -> int:
    """Check key, address and models of each provider, free of charge.

    It asks each provider for its list of models, through its own SDK. With --live, it also asks each
    available provider for one word. That call is recorded in the ledger, and ignores open throttle
    and health circuits. For an account that replies, it closes the terminal circuits.

    Examples:
        promptkit providers check
        promptkit providers check openai --live
    """
    session = cli.session(by_hand=True)
    checks = asyncio.run(_check_all(cli, session, named_providers(session.settings, names), live=live))
    if cli.as_json:
        cli.print_json([result.json() for result in checks])
    else:
        cli.print_table(
            ("provider", "usable", "~result"),
            [(result.provider, "yes" if result.usable else "no", result.text) for result in checks],
        )
    return ExitCode.OK if any(result.usable for result in checks) else ExitCode.AUTH


@dataclass(frozen=True, slots=True)
class Check:
    """The result for a provider. `live` is the reply of its live call, if it made one."""

    provider: str
    usable: bool
    text: str
    live: Reply | None = None

    def json(self) -> dict[str, Json]:
        """Return the result as JSON."""
        live = self.live
        return {
            "provider": self.provider,
            "usable": self.usable,
            "says": self.text,
            "live": None
            if live is None
            else {
                "target": str(live.target),
                "text": live.text,
                "latency_s": round(live.latency_s, 3),
                "cost_usd": usd_text(live.cost_pico),
            },
        }


async def _check_all(cli: Cli, session: Session, providers: Sequence[Provider], *, live: bool) -> list[Check]:
    """Check all providers at once, then make the live calls one after the other, under one cap."""
    try:
        checks = list(await asyncio.gather(*(_check(session, provider) for provider in providers)))
        checks = await _close_circuits(cli, session, checks)
        return await _check_live(cli, session, checks) if live else checks
    finally:
        await session.aclose()


async def _check(session: Session, provider: Provider) -> Check:
    keys = session.settings.keys
    if not keys.usable(provider):
        reason = provider.key_why or f"{provider.api_key_env} isn't set"
        return Check(provider.name, usable=False, text=reason)
    try:
        async with aclosing(open_transport(provider, keys.get(provider))) as transport:
            return _result(provider, await transport.models())
    except PromptKitError as cause:
        return Check(provider.name, usable=False, text=_in_one_line(cause))


def _result(provider: Provider, response: list[str] | WireReply | TransportFailure) -> Check:
    """Return what the response to the request for models means."""
    if isinstance(response, list):
        return Check(provider.name, usable=True, text=_models_text(provider, response))
    failure = (
        from_transport_failure(response)
        if isinstance(response, TransportFailure)
        else from_reply(provider.adapter, response)
    )
    meaning = _MEANINGS.get(failure.fault, failure.fault.value)
    is_available = failure.fault is Fault.RATE_LIMIT
    return Check(provider.name, usable=is_available, text=f"{meaning}: {failure.detail}")


def _models_text(provider: Provider, models: Sequence[str]) -> str:
    """Return the number of models, and which of the provider's file are not among them."""
    known = set(models)
    missing = [model for model in provider.models if model not in known]
    if not missing:
        return counted(len(models), "model")
    more = f" and {len(missing) - _NAMED_MODELS} more" if len(missing) > _NAMED_MODELS else ""
    return f"{counted(len(models), 'model')}; not among them: {', '.join(missing[:_NAMED_MODELS])}{more}"


async def _close_circuits(cli: Cli, session: Session, checks: list[Check]) -> list[Check]:
    """Close the terminal circuits of accounts that have just replied."""
    settings = session.settings
    if not settings.database_path.exists():
        return checks
    from promptkit.engine.endpoints import accounts_of

    accounts = accounts_of(settings.catalog, settings.keys)
    try:
        ledger = await session.ledger()
        terminal = {
            (key.provider, key.account)
            for key in ledger.shared.circuits()
            if key.kind is CircuitKind.TERMINAL
        }
        reopened = [
            result
            for result in checks
            if result.usable and (result.provider, accounts[result.provider]) in terminal
        ]
        for result in reopened:
            await ledger.shared.reset_circuits(result.provider, terminal_of=accounts[result.provider])
    except LedgerError as error:
        cli.notice(f"open circuits are unknown, because the ledger is not readable: {error}")
        return checks
    return [
        replace(result, text=f"{result.text}; its circuit was open, and is closed now")
        if result in reopened
        else result
        for result in checks
    ]


# -------------------------------------------------------------------------------- live calls


async def _check_live(cli: Cli, session: Session, checks: Sequence[Check]) -> list[Check]:
    source = read_source(_LIVE_TEMPLATE, file="(providers check)")
    template = Template(Part.join(parse_ref("promptkit/check@draft"), source, compile_source(source), {}))
    routes = {result.provider: _live_route(session, result.provider) for result in checks if result.usable}
    max_costs = [_max_cost_pico(session, template, route) for route in routes.values() if route]
    cli.notice(
        f"{counted(len(max_costs), 'live call')}: at most {dollars(sum(pico or 0 for pico in max_costs))} "
        f"in total{', plus those without a known price' if None in max_costs else ''}, "
        f"and never more than {dollars(_LIVE_CAP_PICO)}"
    )
    results: list[Check] = []
    left_pico = _LIVE_CAP_PICO
    for check_ in checks:
        route = routes.get(check_.provider)
        result = check_ if route is None else await _call(session, check_, template, route, left_pico)
        left_pico -= result.live.charged_pico if result.live else 0
        results.append(result)
    return results


def _live_route(session: Session, provider: str) -> Route | None:
    """Return one attempt at a target of the provider: the first on a route, else the first in its file."""
    on_routes = (target for route in session.settings.routes.values() for target in route.targets)
    in_file = (Target(provider, model) for model in session.settings.catalog.provider(provider).models)
    target = next((target for target in (*on_routes, *in_file) if target.provider == provider), None)
    return None if target is None else Route("check", (target,), attempts=1, max_wait_s=0)


def _max_cost_pico(session: Session, template: Template, route: Route) -> int | None:
    """Return the most that the call can cost, in pico-USD; None without a price."""
    provider, model = session.settings.catalog.pair(route.targets[0])
    limit = output_limit(session.params(template, route), model)
    tokens = max_input_tokens(template.render({}), template.spec.output)
    return Prices().max_cost_pico(provider, model, tokens, limit, datetime.now(UTC))


async def _call(session: Session, result: Check, template: Template, route: Route, left_pico: int) -> Check:
    try:
        reply = await make_reply(
            session, template, {}, route=route, tags={"check": "live"}, cap_pico=left_pico, parent_id=None
        )
    except PromptKitError as cause:
        return replace(result, usable=False, text=f"{result.text}; live: {_in_one_line(cause)}")
    live = f"live: {reply.target.model} replied in {reply.latency_s:.1f} s for {dollars(reply.cost_pico)}"
    return replace(result, text=f"{result.text}; {live}", live=reply)


def _in_one_line(cause: PromptKitError) -> str:
    return " ".join(str(cause).split())
