"""Chaos: many calls over three simulated providers, faults of every kind, tight caps, and workers that are killed.

    python3 .ci/start.py harness chaos [--calls 20000] [--processes 4] [--kills 10] [--seed N] [--json FILE]

Each provider is a simulator in a process of its own, never killed, that keeps its own bill. The
workers share one ledger, run batch jobs and single calls, and are killed (SIGKILL) at random
moments. At the end every row must have exactly one answer, no cap may have been passed at any
look, and the books must equal the bills but for attempts that are marked unknown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos_worker import CLIENTS, REF, SLOTS
from frame import FAMILIES, Books, Comparison, Provider, Worker, compare, providers

from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.ledger.ledger import Ledger
from promptkit.templates.library import Library

HERE: Final = Path(__file__).resolve().parent
LINE: Final = """+++
[variables.brand]
max_length = 200
[params]
max_output_tokens = 200
+++
{% message "system" %}You write one line.{% endmessage %}
{% message "user" %}Brand: {{ brand }}.{% endmessage %}
"""
KEYS: Final = (
    "OPENAI_API_KEY=sk-chaos-openai\nANTHROPIC_API_KEY=sk-chaos-anthropic\nGEMINI_API_KEY=chaos-gemini\n"
)
ROWS_A_JOB: Final = 500
SINGLES_SHARE: Final = 0.2
FAULTS_SHARE: Final = 0.15
A_CALL_PICO: Final = 45_000_000
"""About what a call costs: the caps are made from it."""
STEPS: Final = 12
"""So often every cap is raised, at about equal distances, before it is wide enough for all."""
LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    calls: int = 20_000
    processes: int = 4
    kills: int = 10
    seed: int = 1

    @property
    def singles(self) -> int:
        """Single calls a worker."""
        return int(self.calls * SINGLES_SHARE) // self.processes

    @property
    def jobs(self) -> tuple[int, int]:
        """Jobs a worker, and rows a job."""
        rows = self.calls // self.processes - self.singles
        jobs = max(1, round(rows / ROWS_A_JOB))
        return jobs, rows // jobs

    @property
    def wanted(self) -> int:
        """All answers that must be there at the end."""
        jobs, rows = self.jobs
        return self.processes * (jobs * rows + self.singles)


@dataclass(slots=True)
class Report:
    """What came of it; `wrong` is empty where all held."""

    size: Size
    seconds: float = 0.0
    answers: int = 0
    rows: dict[str, int] = field(default_factory=dict[str, int])
    kills: int = 0
    raised: int = 0
    budget_stops: int = 0
    other_stops: int = 0
    looks: int = 0
    resets: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])
    books: Comparison = field(default_factory=Comparison)
    spent: dict[str, str] = field(default_factory=dict[str, str])
    wrong: list[str] = field(default_factory=list[str])

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "holds": not self.wrong,
            "calls": self.size.calls,
            "processes": self.size.processes,
            "seed": self.size.seed,
            **{name: getattr(self, name) for name in self.__slots__ if name not in ("size", "books")},
            "books": self.books.as_json(),
        }

    def as_text(self) -> str:
        """For people."""
        books = self.books
        unknown = sum(books.unknown.values())
        lines = [
            f"chaos: {self.size.wanted:,} calls, {self.size.processes} processes, {self.kills} kills",
            f"                seed {self.size.seed}, {self.seconds:.0f} s",
            f"answers         {self.answers:,} of {self.size.wanted:,}; rows {self.rows}",
            f"attempts        {books.attempts:,}; failed: {sum(self.faults.values()):,} of {len(self.faults)} faults",
            f"                {self.faults}",
            f"caps            looked at {self.looks:,} times",
            f"                {self.budget_stops} stops by a cap, raised {self.raised} times; other stops {self.other_stops}",
            f"                {self.spent}",
            f"parked          opened by hand {self.resets} times",
            f"bills           {books.billed:,} lines, {books.billed_pico:,} pico-USD",
            f"books           {books.known:,} attempts of known cost, {books.known_pico:,} pico-USD, each as billed",
            f"unknown         {unknown} attempts, charged {books.unknown_charged_pico:,} pico-USD",
            f"                of the bills {books.unmatched} lines, {books.unmatched_pico:,} pico-USD, are theirs",
            f"                {books.swept} of them by {self.kills} kills (at most {SLOTS} each)",
            *(f"WRONG           {text}" for text in self.wrong),
            "holds" if not self.wrong else "DOES NOT HOLD",
        ]
        return "\n".join(lines)


class Caps:
    """The caps of the configuration, raised whenever they stop somebody."""

    def __init__(self, folder: Path, size: Size, addresses: Mapping[str, str]) -> None:
        self._folder = folder
        self._addresses = addresses
        self._a_step = size.wanted * A_CALL_PICO // STEPS
        self._a_job = max(size.jobs[1] * A_CALL_PICO // 3, 20_000_000_000 // 40)
        self.level = 0
        self.raise_all()

    def highest(self) -> dict[str, int]:
        """The caps as they are now, by what names their scopes."""
        clients = dict.fromkeys((f"client={name}" for name in CLIENTS), self._client)
        return {**clients, "job": self._job, "call": self._job, "day": self._day}

    def raise_all(self) -> None:
        """One step more, written so that nobody reads half of it."""
        self.level += 1
        base = SLOTS * 4 * 300_000_000  # room for what is held at once
        self._day = base + self.level * self._a_step
        self._client = base + self.level * self._a_step * 34 // 100
        self._job = base + self.level * self._a_job
        file = self._folder / "promptkit.toml"
        new = file.with_suffix(".new")
        new.write_text(self._text(), encoding="utf-8")
        new.replace(file)

    def _text(self) -> str:
        tags = "".join(
            f'[budgets.tags."client={name}"]\nper_day_usd = {_usd(self._client)}\n' for name in CLIENTS
        )
        tables = "".join(
            f'[providers.{name}]\nbase_url = "{url}"\ntimeout_s = 2\n'
            for name, url in self._addresses.items()
        )
        return (
            'database = "sqlite:///promptkit.db"\nenv_file = ".env"\n'
            f"[budgets]\nper_job_usd = {_usd(self._job)}\nper_day_usd = {_usd(self._day)}\n{tags}"
            '[routes.default]\ntargets = ["openai/gpt-6-luna", "anthropic/claude-haiku-5-5", '
            f'"gemini/gemini-2.5-flash-lite"]\nmax_wait_s = 20\n{tables}'
        )


def _usd(pico: int) -> str:
    return f"{pico // 10**12}.{pico % 10**12:012}"


async def run(folder: Path, size: Size) -> Report:
    """Do all of it in an empty folder; what does not hold is in the report."""
    report, began = Report(size), time.monotonic()
    home = folder / "templates" / REF
    home.mkdir(parents=True)
    (home / "draft.jinja").write_text(LINE, encoding="utf-8")
    templates = (folder / "templates",)
    publish(OwnTemplates(Library(templates), templates), REF)
    (folder / ".env").write_text(KEYS, encoding="utf-8")
    (folder / ".env").chmod(0o600)
    with providers(folder, size.seed, FAULTS_SHARE) as three:
        caps = Caps(folder, size, {name: one.base_url for name, one in three.items()})
        with Ledger.open(folder / "promptkit.db") as ledger:
            await _storm(folder, size, caps, ledger, report)
            await ledger.shared.sweep()
        _judge(Books(folder / "promptkit.db"), three, caps, report)
    report.seconds = time.monotonic() - began
    return report


async def _storm(folder: Path, size: Size, caps: Caps, ledger: Ledger, report: Report) -> None:
    """Let the workers work, kill them, raise the caps that stop them, open what is parked, and look."""
    dice = random.Random(size.seed)
    books = Books(folder / "promptkit.db")
    deaths = sorted(dice.randrange(size.wanted // 20, size.wanted * 9 // 10) for _ in range(size.kills))
    jobs, rows = size.jobs
    workers = [
        Worker(
            [
                sys.executable,
                str(HERE / "chaos_worker.py"),
                str(folder),
                *map(str, (slot, jobs, rows, size.singles)),
            ],
            folder / f"worker-{slot}.log",
        )
        for slot in range(size.processes)
    ]
    heard = 0
    try:
        while any(worker.ended is None for worker in workers):
            await asyncio.sleep(LOOK_S)
            report.looks += 1
            report.wrong += [text for text in books.passed_caps(caps.highest()) if text not in report.wrong]
            answers = books.count("SELECT count(*) FROM replies")
            if deaths and answers >= deaths[0]:
                await asyncio.sleep(dice.random() * LOOK_S)
                if dice.choice([one for one in workers if one.ended is None] or workers).kill():
                    deaths.pop(0)
            stops = sum(worker.lines["budget"] for worker in workers)
            if stops > heard:
                heard = stops
                caps.raise_all()
                report.raised += 1
            if report.looks % 5 == 0:
                for name in FAMILIES:
                    report.resets += bool(await ledger.shared.reset_circuits(name))
    finally:
        for worker in workers:
            worker.stop()
    report.kills = sum(worker.kills for worker in workers)
    report.budget_stops = sum(worker.lines["budget"] for worker in workers)
    report.other_stops = sum(worker.lines["stopped"] for worker in workers)
    for worker, slot in zip(workers, range(size.processes), strict=True):
        if worker.ended:
            log = (folder / f"worker-{slot}.log").read_text(encoding="utf-8")
            report.wrong.append(f"worker {slot} ended with {worker.ended}: {log[-2000:]}")


def _judge(books: Books, three: Mapping[str, Provider], caps: Caps, report: Report) -> None:
    """Everything that must hold, once all is over."""
    size, wrong = report.size, report.wrong
    jobs, rows = size.jobs
    report.answers = books.count("SELECT count(*) FROM replies")
    report.rows = dict(books.ask("SELECT state, count(*) FROM rows GROUP BY state ORDER BY state"))
    report.faults = dict(
        books.ask(
            "SELECT fault, count(*) FROM attempts WHERE fault IS NOT NULL GROUP BY fault ORDER BY fault"
        )
    )
    answered = sum(report.rows.get(state, 0) for state in ("ok", "truncated"))
    expected = size.processes * jobs * rows
    if not sum(report.rows.values()) == answered == expected:
        wrong.append(f"rows: {report.rows}, and each of {expected} should be answered")
    _exactly_one(books, report, expected)
    sent_again = books.count(
        "SELECT count(*) FROM attempts a JOIN calls c ON c.id = a.call_id "
        "JOIN calls d ON d.row_id = c.row_id AND d.status IN ('ok', 'truncated') "
        "JOIN replies r ON r.call_id = d.id JOIN attempts b ON b.id = r.attempt_id "
        "WHERE a.started_us > b.ended_us"
    )
    if sent_again:
        wrong.append(f"{sent_again} attempts began after their row had a stored reply")
    if held := books.count("SELECT count(*) FROM reservations"):
        wrong.append(f"{held} holds are left")
    wrong += books.passed_caps(caps.highest())
    report.spent = {
        scope
        if not scope.startswith(("job", "call"))
        else scope.partition(":")[0]: f"{100 * spent / cap:.0f} % of {cap}"
        for scope, cap, spent in books.ask("SELECT scope, cap_pico, spent_pico FROM budgets")
    }
    report.books = compare(books, {name: one.bill() for name, one in three.items()})
    wrong += report.books.wrong[:20]
    if report.books.swept > SLOTS * report.kills:
        wrong.append(
            f"{report.books.swept} attempts were left unknown by {report.kills} kills of {SLOTS} slots each"
        )


def _exactly_one(books: Books, report: Report, rows: int) -> None:
    """Each row and each single call has one answered call, with its one stored reply."""
    calls = (
        "SELECT count(*), count(DISTINCT {one}) FROM calls c JOIN replies r ON r.call_id = c.id {more} "
        "WHERE c.status IN ('ok', 'truncated') AND c.row_id IS {null}"
    )
    by_row = books.ask(calls.format(one="c.row_id", more="", null="NOT NULL"))[0]
    tagged = "JOIN tags s ON s.tagset_id = c.tagset_id AND s.name = 'single' JOIN tags w ON w.tagset_id = c.tagset_id AND w.name = 'slot'"
    by_name = books.ask(calls.format(one="w.value || '-' || s.value", more=tagged, null="NULL"))[0]
    singles = report.size.processes * report.size.singles
    if by_row != (rows, rows):
        report.wrong.append(f"{by_row[0]} replies of {by_row[1]} rows, and each of {rows} should have one")
    if by_name != (singles, singles):
        report.wrong.append(
            f"{by_name[0]} replies of {by_name[1]} single calls, and each of {singles} should have one"
        )


def main() -> int:
    """Run it and print what came of it; 0 where all holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    plain = Size()
    for name in Size.__slots__:
        parser.add_argument(f"--{name}", type=int, default=getattr(plain, name))
    parser.add_argument("--json", type=Path, help="Write the report there, for programs.")
    parser.add_argument("--keep", type=Path, help="Work in this empty folder, and leave it.")
    options = parser.parse_args()
    size = Size(options.calls, options.processes, options.kills, options.seed)
    with tempfile.TemporaryDirectory(prefix="promptkit-chaos-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(run(folder, size))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2), encoding="utf-8")
    sys.stdout.write(report.as_text() + "\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
