"""`promptkit simulate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli.command import Cli

if TYPE_CHECKING:
    from promptkit.simulator.server import Simulator

Port = Annotated[int, Option("--port", metavar="N", min=0, max=65535, help="The port; 0 takes a free one.")]
Seed = Annotated[
    int | None,
    Option("--seed", metavar="N", help="The seed of all random choices. Default: the scenario's, or 0."),
]
Latency = Annotated[
    str | None, Option("--latency", metavar="realistic|MS", help="The duration of a reply. Default: none.")
]
ScenarioFile = Annotated[
    Path | None, Option("--scenario", metavar="FILE", help="Faults, limits and models, as TOML.")
]


def simulate(
    cli: Cli, port: Port = 8090, seed: Seed = None, latency: Latency = None, scenario: ScenarioFile = None
) -> int:
    """Run a local server that imitates OpenAI, Anthropic and Gemini.

    It accepts only valid requests, sends the same replies for the same seed, fails on request, and
    keeps its own bill: GET /_bill, GET /_requests, POST /_faults. Any key works. Ctrl-C ends it.

    Examples:
        promptkit simulate
        promptkit simulate --port 0 --seed 7 --latency realistic --json
        promptkit simulate --scenario outage.toml
    """
    from promptkit.simulator.server import serve

    def print_addresses(simulator: Simulator) -> None:
        if cli.as_json:
            cli.print_json({"url": simulator.url, "base_urls": _base_urls(simulator)})
        else:
            cli.print(_config(simulator))
        sys.stdout.flush()

    return 128 + serve(port=port, seed=seed, latency=latency, scenario=scenario, on_ready=print_addresses)


def _base_urls(simulator: Simulator) -> dict[str, str]:
    """Return the `base_url` of each provider; they share one port."""
    return {"openai": f"{simulator.url}/v1", "anthropic": simulator.url, "gemini": simulator.url}


def _config(simulator: Simulator) -> str:
    tables = (f'[providers.{name}]\nbase_url = "{url}"' for name, url in _base_urls(simulator).items())
    return "\n".join(
        [
            f"# The simulator runs at {simulator.url} until Ctrl-C. Add this to promptkit.toml:",
            *tables,
            "# and this to .env (any key works): OPENAI_API_KEY=any",
            f"# Its bill: {simulator.url}/_bill; its requests: {simulator.url}/_requests",
        ]
    )
