"""A night's job under test: one batch command, its runs, what each leaves behind, and the judgement at the end."""

from __future__ import annotations

import csv
import hashlib
import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from doomed import COMMAND, ROOM
from frame import Books, Provider, compare
from tally import Tally

from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.templates.library import Library

DOOMED: Final = Path(__file__).with_name("doomed.py")
REF: Final = "ad/line"
SYSTEM: Final = "You write one line."
SKELETON: Final = f"""+++
[variables.brand]
max_length = 200
[params]
max_output_tokens = 200
+++
{{% message "system" %}}{SYSTEM}{{% endmessage %}}
{{% message "user" %}}Brand: {{{{ brand }}}}.{{% endmessage %}}
"""
CONFIG: Final = """database = "sqlite:///promptkit.db"
env_file = ".env"
[budgets]
per_day_usd = {cap}
[routes.default]
targets = ["openai/gpt-6-luna"]
[providers.openai]
base_url = "{url}"
"""
A_CALL_USD: Final = 0.0002
"""More than the ceiling of a call."""
HANGS_S: Final = 600.0
_LOOK_S: Final = 0.02
_ROW: Final = re.compile(r"Brand: brand (\d+)\.")


class Run:
    """One run of the command, quiet: what it says is an error."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own
            command,
            cwd=cwd,
            env=_environment(cwd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def no_room(self) -> None:
        """From now on none of its files takes more than some bytes."""
        hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (ROOM, hard))

    def end(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        try:
            _, self.said = self._process.communicate(timeout=HANGS_S)
        except subprocess.TimeoutExpired:
            self.kill()
            _, said = self._process.communicate()
            self.said = f"it hung for {HANGS_S:.0f} s. {said}"
        return self._process.returncode


def _environment(home: Path) -> dict[str, str]:
    """No configuration, key or measuring of whoever runs the harness."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(home / "home")}


class Night:
    """A job and all that it needs, in an empty folder.

    Args:
        folder: for the project and its database.
        out: the output file.
        tally: what was done to it.
        seed: of the simulator.
        latency_s: how long each reply takes.
        cuts: how many runs will be cut off: the cap has room for what they leave unknown.
    """

    def __init__(
        self, folder: Path, out: Path, tally: Tally, *, seed: int, latency_s: float, cuts: int
    ) -> None:
        self.folder = folder
        self.database = folder / "promptkit.db"
        self.out = out
        self.tally = tally
        self.books = Books(self.database)
        scenario = folder / "simulator.toml"
        scenario.write_text(f"latency = {latency_s * 1000:.0f}\nprompt_cache = false\n", encoding="utf-8")
        self.simulator = Provider("openai", seed, scenario)
        self._brands = [f"brand {number}" for number in range(tally.rows)]
        self._stored_at: dict[int, int] = {}
        """Row to the number of requests that had arrived when its reply was known to be stored."""
        self._rows_of: dict[int, frozenset[int]] = {}
        """Number of a request to the rows that it was for, where that is read from its body."""
        self._cap = f"{A_CALL_USD * (tally.rows + tally.slots * tally.pack * cuts):.4f}"
        self._arguments = [
            *("batch", REF, "rows.csv", "-o", str(out), "--concurrency", str(tally.slots)),
            *("--budget", self._cap, "--until-budget", "--quiet"),
            *(("--pack", str(tally.pack)) if tally.pack > 1 else ()),
        ]
        self._project()

    def _project(self) -> None:
        home = self.folder / "templates" / REF
        home.mkdir(parents=True)
        (home / "draft.jinja").write_text(SKELETON, encoding="utf-8")
        templates = (self.folder / "templates",)
        publish(OwnTemplates(Library(templates), templates), REF)
        key = self.folder / ".env"
        key.write_text("OPENAI_API_KEY=sk-never-lost\n", encoding="utf-8")
        key.chmod(0o600)
        rows = "".join(f"{number},{brand}\n" for number, brand in enumerate(self._brands))
        (self.folder / "rows.csv").write_text(f"number,brand\n{rows}", encoding="utf-8")
        config = CONFIG.format(cap=self._cap, url=self.simulator.base_url)
        (self.folder / "promptkit.toml").write_text(config, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.simulator.close()

    # ------------------------------------------------------------------------------- runs

    def start(self) -> Run:
        """The command."""
        return self._start(str(COMMAND))

    def start_doomed(self, action: str, point: str, nth: int = 1) -> Run:
        """The command with something wrong at a point."""
        return self._start(sys.executable, str(DOOMED), action, point, str(nth))

    def _start(self, *command: str) -> Run:
        self.tally.runs += 1
        return Run([*command, *self._arguments], self.folder)

    def under_way(self, run: Run) -> bool:
        """Wait until a request of the run has arrived; False where it ended before."""
        before = self.simulator.billed()
        while not run.over:
            if self.simulator.billed() > before:
                return True
            time.sleep(_LOOK_S)
        return False

    def killed(self, run: Run, where: str) -> bool:
        """See that a run was killed, and look at what it left; False where it had ended before."""
        code = run.end()
        if code == -signal.SIGKILL:
            self.tally.kills[where] += 1
        else:
            self.wrong(f"{where}: it should have been killed, and ended with {code}: {run.said}")
        self.look()
        return code == -signal.SIGKILL

    def stopped(self, run: Run, why: str, says: str) -> None:
        """See that a run ended with exit 9 and one line, and look at what it left."""
        code, lines = run.end(), run.said.splitlines()
        if code == 9 and len(lines) == 1 and says in lines[0]:  # the exit code of storage
            self.tally.stops[why] += 1
        else:
            self.wrong(f"{why}: exit {code}, and it says {lines}, not one line with {says!r}")
        self.look()

    def finished(self, run: Run, *, sends: bool = True) -> None:
        """See that a run ended well."""
        before, code = self.simulator.billed(), run.end()
        if code or run.said:
            self.wrong(f"the last run ended with {code}: {run.said}")
        if not sends and self.simulator.billed() > before:
            self.wrong("a finished job sent something")
        self.look()

    def kill_somewhere(self, dice: random.Random, life_s: float, starting: float) -> bool:
        """A run that is killed at a random moment; False where it had ended before."""
        run = self.start()
        if dice.random() < starting:
            where = "starting"
            time.sleep(dice.uniform(0, life_s / 2))
        else:
            where = "running"
            self.under_way(run)
            time.sleep(dice.uniform(0, life_s))
        run.kill()
        return self.killed(run, where)

    def die_at(self, point: str, nth: int) -> bool:
        """A run that dies at a point."""
        return self.killed(self.start_doomed("die", point, nth), point)

    # ------------------------------------------------------------------------------- looks

    def wrong(self, text: str) -> None:
        """Something is as it should not be."""
        self.tally.wrong.append(text)

    def look(self) -> None:
        """After a run: which replies are stored now, and whether a cap was passed."""
        arrived = self.simulator.billed()
        if self.tally.pack > 1:
            for note in self.simulator.requests(bodies=True):
                if "body" in note:
                    found = frozenset(int(row) for row in _ROW.findall(note["body"]))
                    self._rows_of.setdefault(note["number"], found)
        try:
            stored = self.books.ask("SELECT w.position FROM rows w JOIN replies p ON p.call_id = w.call_id")
            held = self.books.count("SELECT count(*) FROM reservations")
            passed = self.books.passed_caps(dict.fromkeys(("job", "day"), self._cap_pico))
        except sqlite3.OperationalError:  # it was killed before there was a database
            return
        for (row,) in stored:
            self._stored_at.setdefault(row, arrived)
        if gone := self._stored_at.keys() - {row for (row,) in stored}:
            self.wrong(f"{len(gone)} stored replies are gone")
        if held > self.tally.slots:
            self.wrong(f"{held} attempts were cut off at once, of {self.tally.slots} slots")
        for text in passed:
            self.wrong(text)

    @property
    def _cap_pico(self) -> int:
        return round(float(self._cap) * 10**12)

    # --------------------------------------------------------------------------- judgement

    def judge(self) -> None:
        """Everything that must hold, once the last run is over."""
        tally, bill = self.tally, self.simulator.bill()
        tally.books = compare(self.books, {"openai": bill})
        tally.wrong += tally.books.wrong[:20]
        if tally.books.swept > tally.unknown_allowed:
            self.wrong(f"{tally.books.swept} unknown attempts, {tally.unknown_allowed} may be")
        self._judge_output()
        self._judge_wire()
        if held := self.books.count("SELECT count(*) FROM reservations"):
            self.wrong(f"{held} holds are left")
        if held := self.books.count("SELECT sum(reserved_pico) FROM budgets"):
            self.wrong(f"{held} pico-USD are still held")

    def _judge_output(self) -> None:
        """Every row exactly once, in the input's order, each with its own stored reply."""
        with self.out.open(encoding="utf-8", newline="") as file:
            written = [
                (row["number"], row["brand"], row["text"], row["status"]) for row in csv.DictReader(file)
            ]
        texts = dict(
            self.books.ask("SELECT w.position, p.text FROM rows w JOIN replies p ON p.call_id = w.call_id")
        )
        wanted = [(str(number), brand, texts.get(number), "ok") for number, brand in enumerate(self._brands)]
        if written != wanted:
            odd = next((pair for pair in zip(written, wanted, strict=False) if pair[0] != pair[1]), None)
            self.wrong(f"the output has {len(written)} rows of {len(wanted)}; the first that differs: {odd}")
        if left := [path.name for path in self.out.parent.glob(f".{self.out.name}*")]:
            self.wrong(f"beside the output lie {left}")
        replies = self.books.ask(
            "SELECT count(*), count(DISTINCT c.row_id) FROM replies p JOIN calls c ON c.id = p.call_id "
            "WHERE c.row_id IS NOT NULL"
        )[0]
        if replies != (len(wanted), len(wanted)):
            self.wrong(
                f"{replies[0]} replies of {replies[1]} rows, and each of {len(wanted)} should have one"
            )

    def _judge_wire(self) -> None:
        """By the simulator's journal: which rows each request was for, and whether it was needed."""
        tally, notes = self.tally, self.simulator.requests()
        asked_for = {
            f"req_{note['request_id']}": rows for note, rows in zip(notes, self._rows(notes), strict=True)
        }
        arrived: Counter[int] = Counter()
        for note, rows in zip(notes, asked_for.values(), strict=True):
            tally.repeated += any(row in arrived for row in rows)
            tally.paid_again += any(note["number"] > self._stored_at.get(row, len(notes)) for row in rows)
            arrived.update(rows)
        tally.requests = len(notes)
        if tally.paid_again:
            self.wrong(f"{tally.paid_again} requests were sent for rows with a stored reply")
        unknown = dict(
            self.books.ask(
                "SELECT w.position, count(*) FROM rows w JOIN calls c ON c.row_id = w.id "
                "JOIN attempts a ON a.call_id = coalesce(c.pack_id, c.id) "
                "WHERE a.cost_pico IS NULL GROUP BY w.position"
            )
        )
        if needless := [row for row, count in arrived.items() if count > 1 + unknown.get(row, 0)]:
            self.wrong(f"{len(needless)} rows were sent again without an unknown attempt: {needless[:5]}")
        mixed = [
            row
            for row, request_id in self.books.ask(
                "SELECT w.position, a.request_id FROM rows w JOIN replies p ON p.call_id = w.call_id "
                "JOIN attempts a ON a.id = p.attempt_id"
            )
            if row not in asked_for.get(request_id, ())
        ]
        if mixed:
            self.wrong(f"{len(mixed)} rows have the reply of another: {mixed[:5]}")

    def _rows(self, notes: Sequence[Mapping[str, Any]]) -> list[frozenset[int]]:
        """The rows that each request was for."""
        if self.tally.pack > 1:
            return [self._rows_of[note["number"]] for note in notes]
        rows = {_prompt_sha256(brand): frozenset((number,)) for number, brand in enumerate(self._brands)}
        return [rows[note["prompt_sha256"]] for note in notes]


def _prompt_sha256(brand: str) -> str:
    return hashlib.sha256(f"{SYSTEM}\nBrand: {brand}.".encode()).hexdigest()
