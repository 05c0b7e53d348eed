"""What a call costs in CPU and wall time: raw aiohttp, the bare SDK, promptkit, LiteLLM's Router.

    python3 .ci/start.py bench call_overhead [--api responses] [--rounds N] [--limits] [--json FILE]

All of them ask the same static server, which runs in a process of its own and answers at once.
Every measurement is a process, too; the contenders take turns within a round, so that what else
the machine does hits all alike, and the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONTENDERS = {"chat": ("aiohttp", "openai", "promptkit", "litellm"), "responses": ("openai", "promptkit")}
CALLS = {1: 300, 50: 3000, 500: 5000}
"""How many calls a measurement makes, by concurrency."""
GOALS = {50: 0.22, 500: 0.18}
"""The CPU of promptkit as a part of the bare SDK's, at most."""
ADDED_MS = 1.0
"""The wall time that it may add to a single call."""

Figures = dict[str, float]


def main() -> int:
    """Measure and print."""
    options = _options()
    samples: dict[tuple[int, str], list[Figures]] = defaultdict(list)
    with serving() as url:
        for number in range(options.rounds):
            for concurrency in options.concurrency:
                for name in options.contenders or CONTENDERS[options.api]:
                    figures = _measure(name, options.api, url, concurrency, limits=options.limits)
                    samples[concurrency, name].append(figures)
            print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    medians = {key: _medians(rounds) for key, rounds in samples.items()}
    _print(options.api, medians)
    if options.json:
        rows = [{"concurrency": key[0], "contender": key[1], **found} for key, found in medians.items()]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--api", choices=CONTENDERS, default="chat")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", choices=CALLS, default=list(CALLS))
    parser.add_argument("--contenders", nargs="+", help="only these; openai, promptkit among them")
    parser.add_argument("--limits", action="store_true", help="promptkit with limits a minute and a day, too")
    parser.add_argument("--json", type=Path, help="write the medians there, too")
    return parser.parse_args()


@contextmanager
def serving() -> Generator[str]:
    """The static server; its address."""
    process = subprocess.Popen([sys.executable, HERE / "static_server.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def _measure(name: str, api: str, url: str, concurrency: int, *, limits: bool) -> Figures:
    python = os.environ.get(f"{name.upper()}_PYTHON", sys.executable)
    calls = CALLS[concurrency]
    command = [python, HERE / "contender.py", name, api, url, str(concurrency), str(calls)]
    command += ["--limits"] if limits else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["rows"] in (None, calls), f"{figures['rows']} attempts in the ledger for {calls} calls"
    return {key: value for key, value in figures.items() if value is not None}


def _medians(rounds: list[Figures]) -> Figures:
    return {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}


def _print(api: str, medians: Mapping[tuple[int, str], Figures]) -> None:
    print(f"\nAPI {api}; medians\n")
    print(
        "| concurrent calls | contender | CPU per call | ratio to the bare SDK | wall time per call | latency of a call | memory |"
    )
    print("|--:|---|--:|--:|--:|--:|--:|")
    for (concurrency, name), found in medians.items():
        ratio = found["cpu_us"] / medians[concurrency, "openai"]["cpu_us"]
        print(
            f"| {concurrency} | {name} | {found['cpu_us']:.0f} us | {ratio:.2f} | {found['wall_us']:.0f} us "
            f"| {found['median_us'] / 1000:.2f} ms | {found['rss_mib']:.0f} MiB |"
        )
    print()
    for concurrency in sorted({key[0] for key in medians}):
        ours, bare = medians[concurrency, "promptkit"], medians[concurrency, "openai"]
        if concurrency in GOALS:
            ratio = ours["cpu_us"] / bare["cpu_us"]
            print(f"at {concurrency}: {ratio:.3f} of the bare SDK's CPU (goal: {GOALS[concurrency]})")
        else:
            added_ms = (ours["median_us"] - bare["median_us"]) / 1000
            print(f"at {concurrency}: {added_ms:+.2f} ms of wall time (goal: at most +{ADDED_MS:g})")


if __name__ == "__main__":
    sys.exit(main())
