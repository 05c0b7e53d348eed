"""A content studio at work: a project folder, three providers that a simulator plays, one more that is cheap and has the largest window."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import virtual_time
from waiting import HANGS_S

from promptkit import AsyncPromptKit
from promptkit._util.notices import show_notices
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.batch.job import Job
from promptkit.batch.options import JobOptions
from promptkit.client.jobs import AsyncJob
from promptkit.config.loading import load
from promptkit.config.settings import Settings
from promptkit.engine.context import Session
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptRecord
from promptkit.simulator.scenario import ModelRule
from promptkit.simulator.server import Simulator
from promptkit.templates.library import Library
from promptkit.types import RowResult

OPENAI: Final = "openai/gpt-6-luna"
ANTHROPIC: Final = "anthropic/claude-haiku-5-5"
GEMINI: Final = "gemini/gemini-2.5-flash-lite"
BIGGEST: Final = "big/big-1"
ALL: Final = (OPENAI, ANTHROPIC, GEMINI)
THREE: Final = ("openai", "anthropic", "gemini")

KEYS: Final = {
    "OPENAI_API_KEY": "sk-canary-openai-0001",
    "ANTHROPIC_API_KEY": "sk-ant-canary-0002",
    "GEMINI_API_KEY": "AIzaCanary-gemini-0003",
    "BIG_API_KEY": "big-canary-0004",
}

BIG: Final = ModelRule(
    "big", "big-1", context_window=4_000_000, input_usd_mtok=Decimal("0.05"), output_usd_mtok=Decimal("0.08")
)
_BIG_FILE: Final = """
adapter = "openai"
api = "chat"
base_url = "{url}/big/v1"
api_key_env = "BIG_API_KEY"
timeout_s = 60
[[models]]
id = "big-1"
context_window = 4000000
max_output_tokens = 32000
[models.price]
input_mtok = 0.05
output_mtok = 0.08
"""

LINE: Final = """+++
description = "One line for a brand"
[variables.brand]
description = "Brand name"
max_length = 200
[variables.angle]
choices = ["problem", "proof"]
default = "proof"
[params]
max_output_tokens = 400
+++
{% message "system" %}You write one line.{% endmessage %}
{% message "user" %}Brand: {{ brand }}. Angle: {{ angle }}.{% endmessage %}
"""

REF: Final = "ad/line"


@dataclass(slots=True)
class Studio:
    """The folder, its simulator, and what was said to the user."""

    folder: Path
    sim: Simulator
    said: list[str] = field(default_factory=list[str])

    @classmethod
    def build(cls, folder: Path, sim: Simulator, database: Path | None = None) -> Studio:
        """Make the project; `database` is an empty ledger to start from."""
        studio = cls(folder, sim)
        if database is not None:
            shutil.copy(database, folder / "promptkit.db")
        (folder / "providers").mkdir()
        (folder / "providers/big.toml").write_text(_BIG_FILE.format(url=sim.url))
        (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in KEYS.items()))
        (folder / ".env").chmod(0o600)
        studio.publish(LINE)
        studio.configure()
        return studio

    def publish(self, source: str, name: str = REF) -> None:
        """Write a template and publish it as its next version."""
        here = self.folder / "templates" / name
        here.mkdir(parents=True, exist_ok=True)
        (here / "draft.jinja").write_text(source)
        templates = (self.folder / "templates",)
        publish(OwnTemplates(Library(templates), templates), name)

    def configure(
        self,
        *,
        targets: Sequence[str] = ALL,
        route: str = "",
        budgets: str = "",
        top: str = "",
        tables: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        """Write promptkit.toml; each argument is TOML for its place."""
        providers = "".join(
            f'[providers.{name}]\nbase_url = "{self.sim.base_url(name)}"\ntimeout_s = {timeout_s}\n'
            for name in THREE
        )
        listed = ", ".join(f'"{target}"' for target in targets)
        if "outage_s" not in route:
            route += "\noutage_s = 0"  # a row that nobody answers fails at once
        (self.folder / "promptkit.toml").write_text(
            f'database = "sqlite:///promptkit.db"\nenv_file = ".env"\n{top}\n[budgets]\n{budgets}\n'
            f"[routes.default]\ntargets = [{listed}]\n{route}\n{providers}\n{tables}\n"
        )

    def settings(self, env: Mapping[str, str] | None = None) -> Settings:
        """The configuration as a process with that environment reads it."""
        return load(self.folder / "promptkit.toml", env=env or {}, cwd=self.folder, home=self.folder / "home")

    @asynccontextmanager
    async def kit(self, env: Mapping[str, str] | None = None) -> AsyncGenerator[AsyncPromptKit]:
        """A kit on this project; what it says is collected."""
        show_notices(self.said.append)
        async with AsyncPromptKit(self.settings(env)) as kit:
            kit.session.now = virtual_time.clock() or kit.session.now
            yield kit

    @staticmethod
    def now() -> float:
        """Seconds since the epoch, by the clock of the running loop."""
        return (virtual_time.clock() or time.time)()

    def job(self, kit: AsyncPromptKit, rows: Any, name: str | None = "night", **options: Any) -> Job:
        """A job of the shipped line, with any of `JobOptions`."""
        session: Session = kit.session
        ref, route = options.pop("ref", REF), session.route(None, options.pop("targets", None))
        return Job(session, ref, rows, route, JobOptions(name=name, **options))

    # ------------------------------------------------------------------ what the simulator saw

    @property
    def billed_pico(self) -> int:
        """What the simulator charges for all that it was asked."""
        return cast("int", self.sim.bill()["total_pico"])

    @property
    def bill(self) -> dict[str, int]:
        """What it charges, by request id."""
        lines = cast("list[dict[str, Any]]", self.sim.bill()["lines"])
        return {line["request_id"]: line["pico"] for line in lines}

    def asked(self, provider: str | None = None) -> int:
        """How many requests it was sent."""
        return sum(provider in (None, note["provider"]) for note in self.sim.requests())


async def until(what: Callable[[], bool], seconds: float = HANGS_S) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - what is watched happens in other processes
            await asyncio.sleep(0.01)


def brands(count: int, start: int = 0) -> list[dict[str, object]]:
    """Rows in memory."""
    return [{"brand": f"Brand {number}"} for number in range(start, start + count)]


async def run_all(job: AsyncJob | Job) -> list[RowResult]:
    """All results, by the rows' numbers."""
    if isinstance(job, Job):
        async with job:
            results = [result async for result in job.results()]
    else:
        results = [result async for result in job]
    return sorted(results, key=lambda result: result.number)


def assert_books_agree(ledger: Ledger, studio: Studio) -> None:
    """The ledger's cost is the bill, to the pico-dollar, attempt by attempt and in all.

    What the provider never told is charged at its ceiling, which the bill doesn't pass.
    """
    money, bill = ledger.reports.spent_total(), studio.bill
    missing = studio.billed_pico - money.known_pico
    assert 0 <= missing <= money.at_most_unknown_pico
    for attempt in attempts_of(ledger):
        assert attempt.max_cost_pico is None or attempt.charged_pico <= attempt.max_cost_pico
        told = bill.get(f"{attempt.request_id}".removeprefix("req_"), 0)
        if attempt.cost is not None:
            assert attempt.cost.pico == told == attempt.charged_pico
        else:
            assert told <= attempt.charged_pico == attempt.max_cost_pico


def attempts_of(ledger: Ledger) -> list[AttemptRecord]:
    """Every attempt in the books, in the order in which they were made."""
    found: list[AttemptRecord] = []
    for logged in ledger.calls.search(limit=100_000):
        call = ledger.calls.get(logged.id)
        assert call is not None
        if call.pack_id is None:  # a row in a pack has parts of its carrier's
            found.extend(call.attempts)
    return sorted(found, key=lambda attempt: attempt.id)


def texts(results: Iterable[RowResult]) -> list[str | None]:
    """Their texts."""
    return [result.text for result in results]
