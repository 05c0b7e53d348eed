"""What became of a test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a test ended."""

    OK = "ok"
    FAIL = "fail"
    SKIPPED = "skipped"


class Stage(StrEnum):
    """What was tested: the prompt (offline), or the reply to it."""

    PROMPT = "prompt"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Result:
    """One test of one template. `note` is what else is to be known (replayed, the target, ...).

    `cost_pico` is what it cost now: 0 for a prompt or a replayed reply, None where unknown.
    `stopped`: a cap left no room for its call.
    """

    template: str
    name: str
    stage: Stage
    problems: tuple[str, ...] = ()
    note: str = ""
    file: str = ""
    line: int | None = None
    seconds: float = 0.0
    cost_pico: int | None = 0
    skipped: bool = False
    stopped: bool = False

    @property
    def verdict(self) -> Verdict:
        """How it ended."""
        if self.problems:
            return Verdict.FAIL
        return Verdict.SKIPPED if self.skipped else Verdict.OK


def failed(results: Iterable[Result]) -> list[Result]:
    """Those that failed."""
    return [one for one in results if one.verdict is Verdict.FAIL]
