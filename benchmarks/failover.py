"""What an outage costs: promptkit and LiteLLM's Router through the same simulated faults.

    python3 .ci/start.py bench failover [--concurrency 4 50] [--calls 30] [--markdown FILE]

Three targets, asked in order, each in OpenAI's chat format at one simulator, which keeps its own
bill. Each contender runs in a process of its own, from an empty state. LiteLLM's Router has two
retries and both other targets as fallbacks; promptkit is as it comes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from promptkit.reports.drill_results import hints_ignored, paid_twice
from promptkit.simulator.scenario import ModelRule, Scenario
from promptkit.simulator.server import Simulator

HERE = Path(__file__).resolve().parent
TARGETS = ("first", "second", "third")
PRICES = (Decimal("0.10"), Decimal("0.50"))
"""USD per million tokens, in and out, of all three."""
HINT_S = 300


@dataclass(frozen=True)
class Case:
    """An outage: its faults, and the target that sends a retry-after hint, if any."""

    name: str
    faults: tuple[Mapping[str, Any], ...]
    hinted: str | None = None


def _always(fault: str, where: str, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "provider": where, "times": None, **more}


CASES = (
    Case("no fault", ()),
    Case("first target returns 503", (_always("http.503", "first"),)),
    Case(
        "first two targets return 500 and 529", (_always("http.500", "first"), _always("http.529", "second"))
    ),
    Case(
        "first target returns 429, Retry-After 300",
        (_always("openai.rate_limit", "first", retry_after_s=HINT_S),),
        hinted="first",
    ),
    Case(
        "first target returns 503, Retry-After 300",
        (_always("http.503", "first", retry_after_s=HINT_S),),
        hinted="first",
    ),
    Case("first target is out of credit", (_always("openai.insufficient_quota", "first"),)),
    Case(
        "every third reply of the first target is unreadable, and billed",
        (_always("wire.malformed", "first", every=3, billed=True),),
    ),
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=[4, 50])
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--markdown", type=Path, help="Write the tables there.")
    options = parser.parse_args()
    contenders = {"promptkit": sys.executable}
    if "LITELLM_PYTHON" in os.environ:
        contenders["LiteLLM Router"] = os.environ["LITELLM_PYTHON"]
    tables: list[str] = []
    for concurrency in options.concurrency:
        calls = max(options.calls, 2 * concurrency)
        rows = [
            asyncio.run(_measure(case, name, python, concurrency, calls))
            for case in CASES
            for name, python in contenders.items()
        ]
        tables.append(_table(f"{calls} calls, {concurrency} concurrent", rows))
        print(tables[-1], flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(tables))
    return 0


async def _measure(case: Case, name: str, python: str, concurrency: int, calls: int) -> dict[str, object]:
    """Run one contender through one outage, and return what the simulator recorded."""
    models = tuple(
        ModelRule(target, f"{target}-1", input_usd_mtok=PRICES[0], output_usd_mtok=PRICES[1])
        for target in TARGETS
    )
    async with Simulator(seed=7, latency=20.0, scenario=Scenario(models=models, prompt_cache=False)) as sim:
        sim.script(case.faults)
        command = [python, str(HERE / "failover_contender.py"), name.split(maxsplit=1)[0].lower(), sim.url]
        process = await asyncio.create_subprocess_exec(
            *command,
            str(concurrency),
            str(calls),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise SystemExit(err.decode()[-2000:])
        measured = json.loads(out.decode().splitlines()[-1])
        requests, bill = sim.requests(), sim.bill()
    billed_pico = int(bill["total_pico"])  # type: ignore[call-overload]
    return {
        "fault": case.name,
        "router": name,
        "rows lost": calls - measured["answered"],
        "requests": len(requests),
        "requests per success": f"{len(requests) / max(measured['answered'], 1):.2f}",
        "seconds": f"{measured['seconds']:.1f}",
        "first reply, s": f"{measured['first_s']:.2f}",
        "hints ignored": "" if case.hinted is None else hints_ignored(requests, concurrency),
        "paid twice": paid_twice(bill["lines"], measured["answered"]),  # type: ignore[arg-type]
        "reported / billed": _share(measured["cost_pico"], measured["unknown_pico"], billed_pico),
    }


def _share(known: int, unknown: int, billed: int) -> str:
    """Return the cost that the contender reports, as a share of the bill; `+` its unknown cost."""
    reported = f"{100 * known / billed:.1f} %" if billed else "-"
    return f"{reported} + up to {100 * unknown / billed:.0f} % unknown" if unknown and billed else reported


def _table(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    names = list(rows[0])
    lines = [f"### {title}", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
