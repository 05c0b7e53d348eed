"""The errors of promptkit, each with its exit code.

    PromptKitError                      70  (a bare one is a bug)
    ├── UsageError                       2  a wrong argument: unknown route, target, option
    │   ├── ConfigError                  2  promptkit.toml, a provider file, .env
    │   ├── InputError                   2  an input file that can't be read
    │   └── JobConflict                  2  the job's name belongs to another template
    ├── TemplateError                    3  a template or its seal is broken or missing
    │   ├── TemplateNotFound             3
    │   ├── VariableError                3  variables don't fit what the template declares
    │   └── RenderLimit                  3  it takes too many steps or grows too large
    ├── NoUsableKey                      4
    ├── AllTargetsFailed                 5  has every attempt
    │   └── StreamCut                    5  has the part of the text that arrived, too
    ├── BudgetStop                       6
    │   └── Unpriced                     6  no price while a cap applies
    ├── LockHeld                         7
    ├── StoppedEarly                     8  deadline or canary
    └── StorageError                     9
        ├── LedgerError                  9  locked, read-only, newer, not a database, full
        └── OutputError                  9

Each error has facts: what is wrong, where (file and line), and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from os import PathLike, fspath

from promptkit.types import Attempt


class ExitCode(IntEnum):
    """The exit statuses of the command."""

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
    """The base of all errors: `message` is the problem, `remedy` what to do next, `file` and `line` where."""

    def __init__(
        self,
        message: str,
        *,
        file: str | PathLike[str] | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else fspath(file)
        self.line = line
        self.remedy = remedy

    @property
    def where(self) -> str:
        """The location: `file:line`, `file`, or the empty string."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.file else self.message
        return f"{text}\n  {self.remedy}" if self.remedy else text


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `2,000 rows`."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def closest(given: str, known: Iterable[str]) -> str:
    """Return a remedy for an unknown word: the closest of the known ones, or all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(given, words, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known here: {', '.join(words)}." if words else "None is known here."


class UsageError(PromptKitError):
    """A wrong argument."""


class ConfigError(UsageError):
    """A configuration or provider file that is not valid."""


class InputError(UsageError):
    """An input file that can't be read."""


class JobConflict(UsageError):
    """A job name that belongs to a job of another template."""


class TemplateError(PromptKitError):
    """A template that is broken, or has a broken seal."""


class TemplateNotFound(TemplateError):
    """A template or version that does not exist."""


class VariableError(TemplateError):
    """Variables that don't fit what the template declares."""


class RenderLimit(TemplateError):
    """A rendering that takes too many steps or characters."""


class NoUsableKey(PromptKitError):
    """No target of the route has a key."""


class AllTargetsFailed(PromptKitError):
    """Every target failed; `attempts` has every attempt."""

    def __init__(self, message: str, *, attempts: Sequence[Attempt] = (), remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.attempts = tuple(attempts)


class StreamCut(AllTargetsFailed):
    """A stream broke off after its first words; `text` is the part that arrived.

    The call was not sent again, because the beginning of another reply would not fit.
    """

    def __init__(
        self, message: str, *, attempts: Sequence[Attempt] = (), text: str = "", remedy: str | None = None
    ) -> None:
        super().__init__(message, attempts=attempts, remedy=remedy)
        self.text = text


class BudgetStop(PromptKitError):
    """A hard cap leaves too little for the call; `attempts` has the attempts before."""

    def __init__(self, message: str, *, attempts: Sequence[Attempt] = (), remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.attempts = tuple(attempts)


class Unpriced(BudgetStop):
    """A cap applies and the target has no price."""


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
"""The order in which exit codes win if several apply to one job."""


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code of an error; an error that is not a `PromptKitError` is a bug (70)."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.BUG)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """Return the code to exit with if several apply; OK for none."""
    ranked = [code for code in PRECEDENCE if code in codes]
    return ranked[0] if ranked else next((code for code in codes if code), ExitCode.OK)
