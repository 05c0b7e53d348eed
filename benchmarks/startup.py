"""How long the command takes to start, and what an installation weighs.

    python3 .ci/start.py bench startup [--rounds N] [--json FILE]

The commands take turns, so that what else the machine does hits all alike; medians count. A run
asks a static server on loopback; its project, its database and the bytecode of its template are
there already, as they are from the second run on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from call_overhead import serving
from contender import project

PYTHON = os.environ.get("PROMPTKIT_PYTHON", sys.executable)
COMMAND = str(Path(PYTHON).with_name("promptkit"))
PEERS = {
    name: os.environ[f"{name.upper()}_PYTHON"]
    for name in ("litellm", "llm")
    if f"{name.upper()}_PYTHON" in os.environ
}

HELP_GOAL = 8.0
"""`--help`, in times of `python -c pass`."""
RUN_GOAL = 1.3
"""A cold run, in times of the two imports that it can't do without."""

_WEIGH = """
import json, sys, sysconfig
from importlib.metadata import distributions
from pathlib import Path
tools = {"pip", "setuptools", "wheel"}
found = [each for each in distributions() if each.name not in tools]
files = {each.locate_file(file) for each in found for file in each.files or () if file.suffix != ".pyc"}
print(json.dumps([len(found), sum(Path(file).stat().st_size for file in files if Path(file).is_file())]))
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the medians there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        project(Path(folder), url, "responses")
        commands = _commands()
        for command in commands.values():  # bytecode, database
            _once(command, folder)
        samples = [
            {name: _once(command, folder) for name, command in commands.items()}
            for _ in range(options.rounds)
        ]
    medians = {name: statistics.median(sample[name] for sample in samples) for name in commands}
    weights = {"promptkit": _weigh(PYTHON), **{name: _weigh(python) for name, python in PEERS.items()}}
    _print(medians, weights)
    if options.json:
        options.json.write_text(json.dumps({"ms": medians, "packages_and_bytes": weights}, indent=1) + "\n")
    return 0


def _commands() -> dict[str, list[str]]:
    commands = {
        "python -c pass": [PYTHON, "-c", "pass"],
        "promptkit --help": [COMMAND, "--help"],
        "promptkit render": [COMMAND, "render", "bench", "-v", "number=3"],
        "promptkit run": [COMMAND, "run", "bench", "-v", "number=3"],
        "python -c 'import openai, sqlmodel'": [PYTHON, "-c", "import openai, sqlmodel"],
    }
    if "llm" in PEERS:
        commands["llm --help"] = [str(Path(PEERS["llm"]).with_name("llm")), "--help"]
    if "litellm" in PEERS:
        commands["python -c 'import litellm'"] = [PEERS["litellm"], "-c", "import litellm"]
    return commands


def _once(command: list[str], folder: str) -> float:
    """Milliseconds of wall time."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return (time.perf_counter() - began) * 1000


def _weigh(python: str) -> tuple[int, int]:
    """How many packages an environment holds, and how many bytes."""
    done = subprocess.run([python, "-c", _WEIGH], check=True, stdout=subprocess.PIPE, text=True)
    packages, size = json.loads(done.stdout)
    return packages, size


def _print(medians: Mapping[str, float], weights: Mapping[str, tuple[int, int]]) -> None:
    print(
        f"load {os.getloadavg()[0]:.1f}, most memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MiB\n"
    )
    print("| command | wall time | ratio to `python -c pass` |\n|---|--:|--:|")
    for name, took in medians.items():
        print(f"| `{name}` | {took:.0f} ms | {took / medians['python -c pass']:.1f} |")
    print("\n| installed | packages | MB |\n|---|--:|--:|")
    for name, (packages, size) in weights.items():
        print(f"| {name} | {packages} | {size / 1e6:.0f} |")
    helped = medians["promptkit --help"] / medians["python -c pass"]
    ran = medians["promptkit run"] / medians["python -c 'import openai, sqlmodel'"]
    print(f"\n--help: {helped:.1f} times `python -c pass` (goal: {HELP_GOAL:g})")
    print(f"a cold run: {ran:.2f} times the imports of openai and sqlmodel (goal: {RUN_GOAL:g})")


if __name__ == "__main__":
    sys.exit(main())
