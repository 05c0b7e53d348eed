"""What a row costs alone and in packs, on the bill of a simulated provider.

    python3 .ci/start.py bench packing [--rows N] [--markdown FILE]

The same rows go through `--pack 1`, `5`, `10` and `auto`, each into a ledger of its own: under a
template whose rows share a long beginning, and one whose rows share next to nothing; with the
provider's prompt cache and without; and with packs that every second or fourth time bring only half
of their items. The provider is the simulator's Anthropic. What it bills is what counts: it counts a
token for each four bytes (UTF-8) of what was really sent and answered, marks and schema included,
and reads and writes its prompt cache at Anthropic's rates. Every bill is held against the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from promptkit import AsyncPromptKit
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.config.loading import load
from promptkit.simulator.server import Simulator
from promptkit.templates.library import Library
from promptkit.types import Status, dollars

PACKS: Final = (1, 5, 10, "auto")
SHARED: Final = "Keep to the house style: short, warm, true; no claim that is not in the brief. "
OWN: Final = "It comes in one colour, weighs next to nothing, and was made by people who use it themselves. "
SKELETON: Final = """+++
description = "A line for a product"
[variables.product]
max_length = 10000
[params]
max_output_tokens = 400
+++
{{% message "system" %}}You write one line. {shared}{{% endmessage %}}
{{% message "user" %}}Product: {{{{ product }}}}{{% endmessage %}}
"""


@dataclass(frozen=True)
class Case:
    """Rows of one kind: how much they share and have of their own, what is cached, what fails."""

    name: str
    shared: int
    own: int
    cache: bool
    faults: tuple[Mapping[str, Any], ...] = ()


LONG, SHORT = (90, 0), (0, 24)
CASES: Final = (
    Case("much in common", *LONG, cache=False),
    Case("much in common, cached", *LONG, cache=True),
    Case("little in common", *SHORT, cache=False),
    Case(
        "every 4th pack loses half",
        *LONG,
        cache=False,
        faults=({"fault": "reply.items_missing", "every": 4},),
    ),
    Case(
        "every 2nd pack loses half",
        *LONG,
        cache=False,
        faults=({"fault": "reply.items_missing", "every": 2},),
    ),
    Case("every pack is unreadable", *LONG, cache=False, faults=({"fault": "reply.not_json"},)),
)


@dataclass(frozen=True)
class Figures:
    """One run: what the provider billed, how many requests it took."""

    rows: int
    requests: int
    billed_pico: int


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    table = "\n".join(asyncio.run(_measure(options.rows)))
    print(table)
    if options.markdown:
        options.markdown.write_text(f"{table}\n", encoding="utf-8")
    return 0


async def _measure(rows: int) -> Sequence[str]:
    lines = ["| rows | pack | requests | cost per row | ratio to unpacked |", "|---|--:|--:|--:|--:|"]
    for case in CASES:
        alone = 0
        for pack in PACKS:
            with tempfile.TemporaryDirectory() as folder:
                found = await _run(Path(folder), case, pack, rows)
            alone = alone or found.billed_pico
            lines.append(
                f"| {case.name} | {pack} | {found.requests} | {dollars(found.billed_pico // found.rows)} "
                f"| {found.billed_pico / alone:.0%} |".replace("%", " %")
            )
            print(lines[-1], file=sys.stderr)
    return lines


async def _run(folder: Path, case: Case, pack: int | str, rows: int) -> Figures:
    """All rows, with a ledger and a simulator of their own."""
    here = folder / "templates/bench/line"
    here.mkdir(parents=True)
    (here / "draft.jinja").write_text(SKELETON.format(shared=SHARED * case.shared))
    templates = (folder / "templates",)
    publish(OwnTemplates(Library(templates), templates), "bench/line")
    async with Simulator(seed=7) as sim:
        sim.script(case.faults)
        (folder / "promptkit.toml").write_text(
            'database = "sqlite:///promptkit.db"\n[routes.default]\n'
            'targets = ["anthropic/claude-haiku-5-5"]\n[providers.anthropic]\n'
            f'base_url = "{sim.base_url("anthropic")}"\nprompt_cache = {str(case.cache).lower()}\n'
        )
        settings = load(
            folder / "promptkit.toml", env={"ANTHROPIC_API_KEY": "sk-bench"}, cwd=folder, home=folder
        )
        async with AsyncPromptKit(settings) as kit:
            products = [{"product": f"Product {number}. {OWN * case.own}"} for number in range(rows)]
            job = kit.batch("bench/line", products, job="bench", pack=cast("Any", pack), concurrency=4)
            made = [result async for result in job]
            spent = (await kit.session.ledger()).reports.spent_total()
        billed = cast("int", sim.bill(lines=False)["total_pico"])
        assert len(made) == rows
        assert all(result.status is Status.OK for result in made)
        assert spent.known_pico == billed, f"the ledger has {spent.known_pico}, the bill {billed}"
        return Figures(rows, len(sim.requests()), billed)


if __name__ == "__main__":
    sys.exit(main())
