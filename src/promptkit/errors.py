"""One tree of errors; the exit code stands beside each.

    PromptKitError                      70  (a bare one is a bug)
    ├── UsageError                       2  a wrong argument: unknown route, target, option
    │   ├── ConfigError                  2  promptkit.toml, a provider file, .env
    │   ├── InputError                   2  a rows file that can't be read
    │   └── JobConflict                  2  the job's name belongs to another template
    ├── TemplateError                    3  a template is broken, missing, or its seal is
    │   ├── TemplateNotFound             3
    │   ├── VariableError                3  variables don't fit what the template declares
    │   └── RenderLimit                  3  it loops or grows without end
    ├── NoUsableKey                      4
    ├── AllTargetsFailed                 5  carries every attempt
    │   └── StreamCut                    5  carries what had come of the text, too
    ├── BudgetStop                       6
    │   └── Unpriced                     6  no price while a budget is in force
    ├── LockHeld                         7
    ├── StoppedEarly                     8  deadline or canary
    └── StorageError                     9
        ├── LedgerError                  9  locked, read-only, newer, not a database, full
        └── OutputError                  9

An error carries facts: what is wrong, where (file and line), and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from os import PathLike, fspath

from promptkit.types import Attempt


class ExitCode(IntEnum):
    """What the command's exit status says."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    TEMPLATE = 3
    AUTH = 4
    EXHAUSTED = 5
    BUDGET = 6
    LOCKED = 7
    STOPPED = 8
    STORAGE = 9
    BUG = 70
    SIGINT = 130
    SIGTERM = 143


class PromptKitError(Exception):
    """The root. `what` says what is wrong, `remedy` what to do next, `file` and `line` where."""

    def __init__(
        self,
        what: str,
        *,
        file: str | PathLike[str] | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.file = None if file is None else fspath(file)
        self.line = line
        self.remedy = remedy

    @property
    def where(self) -> str:
        """`file:line`, `file`, or the empty string."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.file else self.what
        return f"{text}\n  {self.remedy}" if self.remedy else text


def counted(count: int, one: str, many: str | None = None) -> str:
    """So many of a thing, as a message says it: `1 row`, `2,000 rows`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def closest(given: str, known: Iterable[str]) -> str:
    """A remedy for a wrong word: the closest of the known ones, or all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(given, words, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known here: {', '.join(words)}." if words else "None is known here."


class UsageError(PromptKitError):
    """A wrong argument."""


class ConfigError(UsageError):
    """A configuration or provider file that can't stand as it is."""


class InputError(UsageError):
    """A rows file that can't be read."""


class JobConflict(UsageError):
    """The name belongs to a job of another template."""


class TemplateError(PromptKitError):
    """A template that is broken, or whose seal is."""


class TemplateNotFound(TemplateError):
    """No such template or version."""


class VariableError(TemplateError):
    """Variables that don't fit what the template declares."""


class RenderLimit(TemplateError):
    """A rendering that takes too many steps or characters."""


class NoUsableKey(PromptKitError):
    """No target of the route has a key."""


class AllTargetsFailed(PromptKitError):
    """Every target was tried and failed; `attempts` tells each one."""

    def __init__(self, what: str, *, attempts: Sequence[Attempt] = (), remedy: str | None = None) -> None:
        super().__init__(what, remedy=remedy)
        self.attempts = tuple(attempts)


class StreamCut(AllTargetsFailed):
    """A stream broke off after its first words; `text` is what had come.

    Nothing was sent again: the beginning of another reply would not fit.
    """

    def __init__(
        self, what: str, *, attempts: Sequence[Attempt] = (), text: str = "", remedy: str | None = None
    ) -> None:
        super().__init__(what, attempts=attempts, remedy=remedy)
        self.text = text


class BudgetStop(PromptKitError):
    """A hard cap leaves no room for the call; `attempts` tells what was made before."""

    def __init__(self, what: str, *, attempts: Sequence[Attempt] = (), remedy: str | None = None) -> None:
        super().__init__(what, remedy=remedy)
        self.attempts = tuple(attempts)


class Unpriced(BudgetStop):
    """A budget is in force and the target has no price."""


class LockHeld(PromptKitError):
    """Another process runs this job."""


class StoppedEarly(PromptKitError):
    """A deadline or a canary ended the job."""


class StorageError(PromptKitError):
    """Something can't be written."""


class LedgerError(StorageError):
    """The database is locked, read-only, full, of a newer schema, or no database."""


class OutputError(StorageError):
    """The output file can't be written."""


_CODES: tuple[tuple[type[PromptKitError], ExitCode], ...] = (
    (UsageError, ExitCode.USAGE),
    (TemplateError, ExitCode.TEMPLATE),
    (NoUsableKey, ExitCode.AUTH),
    (AllTargetsFailed, ExitCode.EXHAUSTED),
    (BudgetStop, ExitCode.BUDGET),
    (LockHeld, ExitCode.LOCKED),
    (StoppedEarly, ExitCode.STOPPED),
    (StorageError, ExitCode.STORAGE),
)


PRECEDENCE: tuple[ExitCode, ...] = (
    ExitCode.BUG,
    ExitCode.STORAGE,
    ExitCode.AUTH,
    ExitCode.BUDGET,
    ExitCode.EXHAUSTED,
    ExitCode.STOPPED,
    ExitCode.SOME_FAILED,
)
"""Which code wins where several apply to one job."""


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of an error; what is none of ours is a bug (70)."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.BUG)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The code to exit with where several apply; OK for none."""
    ranked = [code for code in PRECEDENCE if code in codes]
    return ranked[0] if ranked else next((code for code in codes if code), ExitCode.OK)
