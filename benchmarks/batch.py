"""A night's rows through promptkit, beside a plain loop over the bare SDK and bespokelabs-curator.

    python3 .ci/start.py bench batch [--rows N] [--concurrency N] [--rounds N] [--json FILE]
    python3 .ci/start.py bench batch --size [--rows N]

All ask the same static server, which answers at once, at the same concurrency; each is a process
of its own and is measured as such, imports and all: rows in from a CSV, JSON lines out. They take
turns within a round; medians count. promptkit alone keeps books: every attempt is on the disk
before it leaves, under a cap, and its rows in the output are counted.

`--size` runs promptkit alone, first on ten thousand rows and then on a million: a row may cost no
more time and the process no more memory than a third above the small run's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from call_overhead import HERE, serving

CONTENDERS = ("openai", "curator", "promptkit")
GOALS = {"curator": 3.0, "openai": 2.0}
"""How many times their rows a second promptkit makes, at least."""
SMALL, LARGE = 10_000, 1_000_000
GROWTH = 1.3
MOST_MIB = 300


@dataclass(frozen=True)
class Figures:
    """One process: `rss_mib` is its peak, that of its children included where it has any."""

    rows: int
    wall_s: float
    cpu_s: float
    rss_mib: float

    @property
    def rows_a_second(self) -> float:
        """Over the whole process."""
        return self.rows / self.wall_s


def main() -> int:
    """Measure and print."""
    options = _options()
    with serving() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.size:
            return _size(url, options.concurrency, options.rows or LARGE, folder)
        found = _compare(url, options, folder)
    _print(found)
    if options.json:
        options.json.write_text(json.dumps({key: asdict(one) for key, one in found.items()}, indent=1) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=None, help=f"default: {SMALL}; with --size {LARGE}")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", action="store_true", help="ten thousand rows beside a million")
    parser.add_argument("--json", type=Path, help="write the medians there, too")
    return parser.parse_args()


def _compare(url: str, options: argparse.Namespace, folder: Path) -> dict[str, Figures]:
    rows = _table(folder, options.rows or SMALL)
    samples: dict[str, list[Figures]] = defaultdict(list)
    for number in range(options.rounds):
        for name in CONTENDERS:
            samples[name].append(_measure(name, url, options.concurrency, rows, folder))
        print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return {name: _median(found) for name, found in samples.items()}


def _table(folder: Path, rows: int) -> Path:
    """A table of so many rows."""
    path = folder / f"rows-{rows}.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("number\n")
        file.writelines(f"{number}\n" for number in range(rows))
    return path


def _measure(name: str, url: str, concurrency: int, rows: Path, folder: Path) -> Figures:
    """One contender on all rows; none may be missing from what it wrote."""
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    python = os.environ.get(f"{name.upper()}_PYTHON", sys.executable)
    command = [python, HERE / "batch_contender.py", name, url, str(concurrency), rows, out]
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        if status:
            said.seek(0)
            sys.exit(f"{name} failed: {said.read().decode(errors='replace')[-2000:]}")
    asked, made = _lines(rows) - 1, _lines(out)
    assert made == asked, f"{name} wrote {made} of {asked} rows"
    return Figures(asked, wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _median(found: list[Figures]) -> Figures:
    def middle(name: str) -> float:
        return statistics.median(getattr(one, name) for one in found)

    return Figures(found[0].rows, middle("wall_s"), middle("cpu_s"), middle("rss_mib"))


def _print(found: Mapping[str, Figures]) -> None:
    ours = found["promptkit"]
    print("\n| contender | rows per second | promptkit | CPU per row | memory |\n|---|--:|--:|--:|--:|")
    for name, one in found.items():
        print(
            f"| {name} | {one.rows_a_second:,.0f} | {ours.rows_a_second / one.rows_a_second:.2f} times as fast "
            f"| {one.cpu_s / one.rows * 1e6:,.0f} us | {one.rss_mib:.0f} MiB |"
        )
    print()
    for name, goal in GOALS.items():
        times = ours.rows_a_second / found[name].rows_a_second
        print(f"{times:.2f} times the rows per second of {name} (goal: {goal:g})")


def _size(url: str, concurrency: int, rows: int, folder: Path) -> int:
    """Ten thousand rows, then many: how time a row and memory grow."""
    found = [_measure("promptkit", url, concurrency, _table(folder, size), folder) for size in (SMALL, rows)]
    print("\n| rows | wall time | wall time per row | CPU per row | memory |\n|--:|--:|--:|--:|--:|")
    for one in found:
        print(
            f"| {one.rows:,} | {one.wall_s:.1f} s | {one.wall_s / one.rows * 1e6:.0f} us "
            f"| {one.cpu_s / one.rows * 1e6:.0f} us | {one.rss_mib:.0f} MiB |"
        )
    small, large = found
    time_growth = (large.wall_s / large.rows) / (small.wall_s / small.rows)
    memory_growth = large.rss_mib / small.rss_mib
    print(f"\ntime per row: {time_growth:.2f} times (goal: at most {GROWTH})")
    print(
        f"memory: {memory_growth:.2f} times (goal: at most {GROWTH}), {large.rss_mib:.0f} MiB (goal: {MOST_MIB})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
