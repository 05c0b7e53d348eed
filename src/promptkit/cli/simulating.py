"""The simulate command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .face import Face

if TYPE_CHECKING:
    from promptkit.simulator.server import Simulator


Port = Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")]


Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="What every choice is drawn from. Else the scenario's, or 0."),
]


Latency = Annotated[
    str | None, typer.Option("--latency", metavar="realistic|MS", help="How long a reply takes. Else none.")
]


ScenarioFile = Annotated[
    Path | None, typer.Option("--scenario", metavar="FILE", help="Faults, limits and models, as TOML.")
]


def simulate(
    face: Face, port: Port = 8090, seed: Seed = None, latency: Latency = None, scenario: ScenarioFile = None
) -> int:
    """Play OpenAI, Anthropic and Gemini on this machine.

    A loopback server that is strict about what it accepts, answers the same to the same seed,
    fails on request, and keeps a bill of its own: GET /_bill, GET /_requests, POST /_faults.
    Any key will do. Ctrl-C ends it.

    Examples:
        promptkit simulate
        promptkit simulate --port 0 --seed 7 --latency realistic --json
        promptkit simulate --scenario outage.toml
    """
    from promptkit.simulator.server import serve

    def ready(simulator: Simulator) -> None:
        if face.as_json:
            face.print_json({"url": simulator.url, "base_urls": _addresses(simulator)})
        else:
            face.print(_welcome(simulator))
        sys.stdout.flush()

    return 128 + serve(port=port, seed=seed, latency=latency, scenario=scenario, on_ready=ready)


def _addresses(simulator: Simulator) -> dict[str, str]:
    """The `base_url` of each provider on the one port that serves them all."""
    return {"openai": f"{simulator.url}/v1", "anthropic": simulator.url, "gemini": simulator.url}


def _welcome(simulator: Simulator) -> str:
    tables = (f'[providers.{name}]\nbase_url = "{url}"' for name, url in _addresses(simulator).items())
    return "\n".join(
        [
            f"# The simulator serves at {simulator.url} until Ctrl-C. For promptkit.toml:",
            *tables,
            "# and for .env, since any key will do: OPENAI_API_KEY=any",
            f"# Its bill: {simulator.url}/_bill; what it was asked: {simulator.url}/_requests",
        ]
    )
