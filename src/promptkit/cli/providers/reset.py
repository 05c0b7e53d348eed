"""`promptkit providers reset`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from promptkit.cli.command import Cli
from promptkit.errors import UsageError

from .list import named_providers

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.types import Provider

Names = Annotated[list[str] | None, Argument(metavar="NAME...", help="The providers.")]
All = Annotated[bool, Option("--all", help="All providers.")]


def reset(cli: Cli, names: Names = None, all_: All = False) -> None:
    """Close the circuits of a provider.

    The provider is asked again at once, by running jobs too. Use it after you have paid a bill, or
    when an outage is over before the time that `providers list` shows.

    Examples:
        promptkit providers reset openai
        promptkit providers reset --all
    """
    if bool(names) == all_:
        raise UsageError("reset takes the names of providers, or --all")
    settings = cli.settings()
    closed = asyncio.run(_reset(cli, settings, named_providers(settings, names)))
    if cli.as_json:
        cli.print_json(closed)
        return
    for name, count in closed.items():
        if count or names:
            cli.print(f"{name}: {'circuits closed' if count else 'no circuit was open'}")


async def _reset(cli: Cli, settings: Settings, providers: list[Provider]) -> dict[str, int]:
    with cli.ledger(settings) as ledger:
        return {provider.name: await ledger.shared.reset_circuits(provider.name) for provider in providers}
