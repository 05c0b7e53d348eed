"""What a harness is made of: providers and workers in processes of their own, kills, and books held against bills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from promptkit.simulator.faults import ERRORS, REPLY, WIRE

FAMILIES: Final = ("openai", "anthropic", "gemini")
COMMAND: Final = Path(sys.executable).with_name("promptkit")
SWEPT: Final = "its process ended before the reply was recorded"
"""What the ledger says of an attempt whose process was killed."""
_PARKS: Final = (
    "unauthorized",
    "forbidden",
    "not_found",
    "quota",
    "credit",
    "limit",
    "billing",
    "precondition",
)
"""Words in the names of faults that close a provider for all calls, until somebody opens it."""


# ------------------------------------------------------------------------------ providers


class Provider:
    """`promptkit simulate` in a process of its own, for one provider."""

    def __init__(self, name: str, seed: int, scenario: Path) -> None:
        self.name = name
        options = ["--port", "0", "--seed", str(seed), "--scenario", str(scenario), "--json"]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [COMMAND, "simulate", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        told = json.loads("".join(_until(_out(self._process), "}")))
        self._url, self.base_url = str(told["url"]), str(told["base_urls"][name])

    def script(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace what goes wrong there."""
        body = json.dumps({"faults": list(rules)}).encode()
        self._get("/_faults", body)

    def bill(self) -> dict[str, Any]:
        """What it charges, with every line."""
        return self._get("/_bill")

    def requests(self, *, bodies: bool = False) -> list[dict[str, Any]]:
        """The journal of what arrived, in the order of arrival; of the last 1,000 the bodies, too."""
        return cast("list[dict[str, Any]]", self._get(f"/_requests?bodies={bodies:d}")["requests"])

    def billed(self) -> int:
        """How many requests arrived that it charges for."""
        return int(self._get("/_bill?lines=0")["requests"])

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=180)

    def _get(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(self._url + path, body, timeout=120) as reply:  # noqa: S310 - our own
            return cast("dict[str, Any]", json.load(reply))


@contextlib.contextmanager
def providers(folder: Path, seed: int, share: float) -> Generator[dict[str, Provider]]:
    """The three providers, each answering that share of its requests with a fault drawn from the whole table."""
    made: dict[str, Provider] = {}
    try:
        for number, name in enumerate(FAMILIES):
            scenario = folder / f"{name}.toml"
            scenario.write_text("prompt_cache = false\n", encoding="utf-8")
            made[name] = Provider(name, seed + number, scenario)
            made[name].script(every_fault(name, share))
        yield made
    finally:
        for provider in made.values():
            provider.close()


def every_fault(family: str, share: float) -> list[dict[str, Any]]:
    """All faults that a provider can show, drawn by chance; those that close it are rarer."""
    names = [name for name in ERRORS if name.startswith(f"{family}.")]
    names += [*WIRE, *REPLY, "http.500", "http.503"]
    return [
        {
            "fault": name,
            "provider": family,
            "probability": share / len(names) / (8 if any(word in name for word in _PARKS) else 1),
            "retry_after_s": 0.1,
            "seconds": 0.3,
        }
        for name in names
    ]


# -------------------------------------------------------------------------------- workers


class Worker:
    """A process that is started again whenever it was killed. What it says is read line by line."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = list(command)
        self._log = log
        self.lines: Counter[str] = Counter()
        self.kills = 0
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        with self._log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._reader = threading.Thread(target=self._read, args=(_out(self._process),), daemon=True)
        self._reader.start()

    def kill(self) -> bool:
        """SIGKILL, and start again; False where it has ended by itself."""
        if self._process.poll() is not None:
            return False
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        self.kills += 1
        self.start()
        return True

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End it for good."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self, out: IO[str]) -> None:
        with out:
            for line in out:
                self.lines[line.strip()] += 1


def _out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _until(lines: Iterable[str], last: str) -> Generator[str]:
    for line in lines:
        yield line
        if line.rstrip() == last:
            return


# ------------------------------------------------------------------------ books and bills


@dataclass(slots=True)
class Books:
    """A ledger's file, read only, beside whoever writes it."""

    path: Path

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=120)
        ) as connection:
            return connection.execute(sql, values).fetchall()

    def count(self, sql: str, *values: object) -> int:
        """The one number of a query."""
        return int(self.ask(sql, *values)[0][0] or 0)

    def passed_caps(self, caps: Mapping[str, int]) -> list[str]:
        """Scopes that hold or spent more than a cap that they ever had, or whose cap is higher than it should be.

        Who still goes by an older configuration sets an older, lower cap, under which what began
        under the higher one is `over`: that begins nothing, and is no cap passed.

        Args:
            caps: the highest cap in pico-USD, by a word of the scope's name; the first that is in it counts.
        """
        found: list[str] = []
        for scope, cap, spent, held, over in self.ask(
            "SELECT scope, cap_pico, spent_pico, reserved_pico, over_pico FROM budgets"
        ):
            allowed = next((most for word, most in caps.items() if word in scope), 0)
            if cap > allowed or spent + held > (allowed if over else cap) or (over and cap == allowed):
                found.append(f"{scope}: {spent} + {held} of {cap} (allowed {allowed}, over {over})")
        return found


@dataclass(slots=True)
class Comparison:
    """The books held against the bills. Money in pico-USD.

    Attributes:
        attempts: in the books.
        billed: lines of the bills that were charged for.
        known: attempts whose cost is known.
        unknown: attempts whose cost isn't, by what the books say of them.
        known_pico: what they come to; the same attempts come to the same on the bills.
        billed_pico: the bills in all.
        unmatched: billed lines that no attempt of known cost accounts for.
        unmatched_pico: what they come to.
        unknown_charged_pico: what the unknown were charged.
        wrong: everything that should not be.
    """

    attempts: int = 0
    billed: int = 0
    known: int = 0
    unknown: dict[str, int] = field(default_factory=dict[str, int])
    known_pico: int = 0
    billed_pico: int = 0
    unmatched: int = 0
    unmatched_pico: int = 0
    unknown_charged_pico: int = 0
    wrong: list[str] = field(default_factory=list[str])

    @property
    def swept(self) -> int:
        """Attempts that a kill left unknown."""
        return self.unknown.get(SWEPT, 0)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def compare(books: Books, bills: Mapping[str, Mapping[str, Any]]) -> Comparison:
    """Hold every attempt against the bill of its provider, and every line of a bill against the attempts.

    An attempt of known cost costs what the line of its request id says, nothing where there is
    none. What is left of a bill belongs to attempts of unknown cost of that provider: there are
    at least as many of them, and they were charged at least as much.
    """
    made = Comparison()
    for provider, bill in bills.items():
        lines = {line["request_id"]: line for line in bill["lines"] if line["billed"]}
        made.billed += len(lines)
        made.billed_pico += bill["total_pico"]
        unknown = charged = 0
        for attempt_id, request_id, cost, its_charge, ceiling, detail in books.ask(
            "SELECT id, request_id, cost_pico, charged_pico, max_cost_pico, detail FROM attempts WHERE provider = ?",
            provider,
        ):
            made.attempts += 1
            line = lines.get(f"{request_id}".removeprefix("req_"))
            told = 0 if line is None else line["pico"]
            if cost is None:
                unknown, charged = unknown + 1, charged + its_charge
                made.unknown[detail or "no usage told"] = made.unknown.get(detail or "no usage told", 0) + 1
                if told > its_charge or its_charge > (ceiling or 0):
                    made.wrong.append(
                        f"{provider} {attempt_id}: charged {its_charge}, billed {told}, at most {ceiling}"
                    )
                continue
            made.known += 1
            made.known_pico += cost
            if cost != told or its_charge != cost:
                made.wrong.append(
                    f"{provider} {attempt_id}: costs {cost}, billed {told}, charged {its_charge}"
                )
            elif line is not None:
                del lines[line["request_id"]]
        left = sum(line["pico"] for line in lines.values())
        made.unmatched, made.unmatched_pico = made.unmatched + len(lines), made.unmatched_pico + left
        made.unknown_charged_pico += charged
        if len(lines) > unknown or left > charged:
            made.wrong.append(
                f"{provider}: {len(lines)} lines of {left} pico-USD are left of the bill, {unknown} attempts of "
                f"{charged} are unknown"
            )
    return made
