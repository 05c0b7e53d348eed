"""Running the command: errors become messages on stderr and exit codes, in this one place."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Final, NoReturn

import typer

from promptkit.errors import AllTargetsFailed, BudgetStop, ExitCode, PromptKitError, exit_code

_ISSUES: Final = "the project's issue tracker"


def run() -> NoReturn:
    """Run the command line and exit."""
    from .app import app

    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
    except typer.Exit as exit_:
        code = exit_.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user
        code = _tell(error)
    except KeyboardInterrupt:
        code = ExitCode.SIGINT
    except Terminated:
        code = ExitCode.SIGTERM
    sys.exit(_flushed(int(code or 0)))


class Terminated(BaseException):
    """SIGTERM: it ends the process like an interrupt, through every `finally`."""


def _terminated(_number: int, _frame: object) -> None:
    raise Terminated


def _tell(error: Exception) -> int:
    """Say what is wrong, on stderr; the exit code."""
    if isinstance(error, BrokenPipeError):
        return ExitCode.OK
    if isinstance(error, PromptKitError) and exit_code(error) is not ExitCode.BUG:
        _print(f"promptkit: {error}")
        if isinstance(error, AllTargetsFailed | BudgetStop):
            for attempt in error.attempts:
                _print(f"  {attempt.target}: {attempt.fault}: {attempt.detail}")
        return exit_code(error)
    show = getattr(error, "show", None)  # click's own usage errors know how to print themselves
    if callable(show):
        show()
        return int(getattr(error, "exit_code", ExitCode.USAGE))
    return _tell_bug(error)


def _tell_bug(error: Exception) -> int:
    _print(f"promptkit: a bug: {type(error).__name__}: {error}")
    _print(f"  Please report it to {_ISSUES}; --verbose adds the traceback.")
    if "--verbose" in sys.argv:
        traceback.print_exception(error)
    return ExitCode.BUG


def _print(text: str) -> None:
    print(text, file=sys.stderr)


def _flushed(code: int) -> int:
    """Flush stdout while its failure can still be told: a full disk, a closed pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as `head` does; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _print(f"promptkit: the output can't be written: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.STORAGE
    return code
