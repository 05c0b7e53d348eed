"""Whether providers answer: key, address and models, by the SDK's own listing; and one live word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from promptkit.batch.columns import usd_text
from promptkit.engine.calls import make_reply
from promptkit.engine.context import Session
from promptkit.errors import LedgerError, PromptKitError, counted
from promptkit.providers.replies import from_reply, from_transport_failure
from promptkit.providers.transport import open_transport
from promptkit.routing.health import Lane
from promptkit.templates.compiler import compile_source
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.types import Fault, Json, Provider, Reply, Route, Target, TransportFailure, WireReply, dollars

from .estimates import Ceilings

LIVE_CAP_PICO: Final = 10**10
"""What all live checks of one command may cost together: $0.01."""


_NAMED: Final = 3


_PROBE: Final = """\
+++
description = "One word, to see that a provider answers"
[params]
max_output_tokens = 64
reasoning = "off"
+++
{% message "user" %}Answer with the one word OK.{% endmessage %}
"""


_REMEDIES: Final = {
    Fault.AUTH: "the key is refused",
    Fault.TRANSIENT: "can't be reached",
    Fault.RATE_LIMIT: "it answers, and asks for less",
    Fault.QUOTA: "the account is out of credit",
}


@dataclass(frozen=True, slots=True)
class Check:
    """What became of a provider's check. `live` is the reply of the live call, where one was made."""

    provider: str
    usable: bool
    says: str
    live: Reply | None = None

    def as_json(self) -> dict[str, Json]:
        """The same as JSON."""
        live = self.live
        return {
            "provider": self.provider,
            "usable": self.usable,
            "says": self.says,
            "live": None
            if live is None
            else {
                "target": str(live.target),
                "text": live.text,
                "latency_s": round(live.latency_s, 3),
                "cost_usd": usd_text(live.cost_pico),
            },
        }


async def check_all(
    session: Session, providers: Sequence[Provider], *, live: bool, say: Callable[[str], None]
) -> list[Check]:
    """Check providers; all at once, and the live calls one after the other, under one cap."""
    try:
        checks = list(await asyncio.gather(*(_check(session, provider) for provider in providers)))
        checks = await _reopened(session, checks, say)
        return await _check_live(session, checks, say) if live else checks
    finally:
        await session.aclose()


async def _check(session: Session, provider: Provider) -> Check:
    if not session.settings.keys.usable(provider):
        return Check(provider.name, False, provider.key_why or f"{provider.api_key_env} isn't set")  # noqa: FBT003
    try:
        async with aclosing(open_transport(provider, session.settings.keys.get(provider))) as transport:
            return _read(provider, await transport.models())
    except PromptKitError as cause:
        return Check(provider.name, False, _line(cause))  # noqa: FBT003


async def _reopened(session: Session, checks: list[Check], say: Callable[[str], None]) -> list[Check]:
    """Open what was closed until something changes, of those that have just answered."""
    settings = session.settings
    if not settings.database_path.exists():
        return checks
    from promptkit.engine.attempts import accounts_of

    accounts = accounts_of(settings.catalog, settings.keys)
    try:
        ledger = await session.ledger()
        closed = {
            (key.provider, key.account) for key in ledger.shared.circuits() if key.lane is Lane.TERMINAL
        }
        again = [
            check for check in checks if check.usable and (check.provider, accounts[check.provider]) in closed
        ]
        for check in again:
            await ledger.shared.reset_circuits(check.provider, terminal_of=accounts[check.provider])
    except LedgerError as error:
        say(f"the ledger can't say what is closed: {error}")
        return checks
    return [
        replace(check, says=f"{check.says}; it was closed, and is open again") if check in again else check
        for check in checks
    ]


def _read(provider: Provider, found: list[str] | WireReply | TransportFailure) -> Check:
    """What an answer to the question for models means."""
    if isinstance(found, list):
        return Check(provider.name, True, _models(provider, found))  # noqa: FBT003
    failure = (
        from_transport_failure(found)
        if isinstance(found, TransportFailure)
        else from_reply(provider.adapter, found)
    )
    meant = _REMEDIES.get(failure.fault, failure.fault.value)
    return Check(provider.name, failure.fault is Fault.RATE_LIMIT, f"{meant}: {failure.detail}")


def _models(provider: Provider, listed: Sequence[str]) -> str:
    """How many models there are, and which of the file's aren't among them."""
    known = set(listed)
    missing = [model for model in provider.models if model not in known]
    told = counted(len(listed), "model")
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        told += f"; not among them: {', '.join(missing[:_NAMED])}{more}"
    return told


# ------------------------------------------------------------------------------ one live word
async def _check_live(session: Session, checks: Sequence[Check], say: Callable[[str], None]) -> list[Check]:
    template = _probe()
    prompt = template.render({})
    routes = {check.provider: _route_of(session, check.provider) for check in checks if check.usable}
    ceilings = [
        Ceilings(session, template, route, route.targets[0]).pico(prompt)
        for route in routes.values()
        if route
    ]
    most = sum(pico or 0 for pico in ceilings)
    say(
        f"{counted(len(ceilings), 'live call')}: at most {dollars(most)} in all"
        + (" besides those without a known price" if None in ceilings else "")
        + f", and never more than {dollars(LIVE_CAP_PICO)}"
    )
    done: list[Check] = []
    left = LIVE_CAP_PICO
    for check in checks:
        route = routes.get(check.provider)
        result = check if route is None else await _ask(session, check, template, route, left)
        left -= result.live.charged_pico if result.live else 0
        done.append(result)
    return done


async def _ask(session: Session, check: Check, template: Template, route: Route, left_pico: int) -> Check:
    try:
        reply = await make_reply(
            session, template, {}, route=route, tags={"check": "live"}, cap_pico=left_pico, parent_id=None
        )
    except PromptKitError as cause:
        return replace(check, usable=False, says=f"{check.says}; live: {_line(cause)}")
    told = f"live: {reply.target.model} answered in {reply.latency_s:.1f} s for {dollars(reply.cost_pico)}"
    return replace(check, says=f"{check.says}; {told}", live=reply)


def _probe() -> Template:
    source = read_source(_PROBE, file="(providers check)")
    return Template(Part.join(parse_ref("promptkit/check@draft"), source, compile_source(source), {}))


def _route_of(session: Session, provider: str) -> Route | None:
    """One attempt at a target of the provider: the first that a route names, else its file's first."""
    named = (target for route in session.settings.routes.values() for target in route.targets)
    listed = (Target(provider, model) for model in session.settings.catalog.provider(provider).models)
    target = next((target for target in (*named, *listed) if target.provider == provider), None)
    return None if target is None else Route("check", (target,), attempts=1, max_wait_s=0)


def _line(cause: PromptKitError) -> str:
    """An error in one line."""
    return " ".join(str(cause).split())
