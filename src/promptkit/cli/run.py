"""Running the command: errors become messages on stderr and exit codes, in this one place."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import Final, NoReturn, TextIO

from promptkit.cli import scrub

_ISSUES: Final = "the project's issue tracker"


_COLLECT_EVERY: Final = 200_000
"""Allocations between two looks for cyclic garbage. Modules and calls make next to none: at
Python's 700 the looking takes a tenth of a start, and of a batch."""


def run() -> NoReturn:
    """Run the command line of this process and exit."""
    gc.set_threshold(_COLLECT_EVERY)
    signal.signal(signal.SIGTERM, _terminated)
    _forgive(sys.stdout)
    code = _flushed(execute(sys.argv[1:]))
    gc.disable()  # else the interpreter looks through everything once more before it lets go: 50 ms
    sys.exit(code)


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code and raises nothing."""
    try:
        from .app import app

        return int(app(list(arguments), prog_name="promptkit", standalone_mode=False) or 0)
    except SystemExit as end:  # typer's own: a completion, and 1 where stdout's reader has gone
        return 0 if isinstance(end.__context__, BrokenPipeError) else int(end.code or 0)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user
        if isinstance(error, OSError) and _is_of_printing(error):
            return _tell_unwritten(error)
        return _tell(error, verbose="--verbose" in arguments)


class Terminated(BaseException):
    """SIGTERM: it ends the process like an interrupt, through every `finally`."""


def _terminated(_number: int, _frame: object) -> None:
    raise Terminated


def _tell(error: Exception, *, verbose: bool) -> int:
    """Say what is wrong, on stderr; the exit code."""
    usage = getattr(error, "format_message", None)  # click's own usage errors
    if callable(usage):
        return _tell_usage(error, str(usage()))
    return tell(error, verbose=verbose)


def tell(error: Exception, *, verbose: bool = False) -> int:
    """Say what is wrong, where, and what to do next; returns the exit code."""
    from promptkit.errors import AllTargetsFailed, BudgetStop, ExitCode, PromptKitError, exit_code

    code = exit_code(error)
    if code is ExitCode.BUG or not isinstance(error, PromptKitError):
        return _tell_bug(error, verbose=verbose)
    _print(f"promptkit: {error}")
    if isinstance(error, AllTargetsFailed | BudgetStop):
        told = (f"  {one.target}: {one.fault or one.state}: {one.detail}" for one in error.attempts)
        for line, equal in groupby(told):
            count = len(list(equal))
            _print(line if count == 1 else f"{line} (x{count})")
    return code


def say_line(text: str) -> None:
    """Say what is wrong in one line, however many it has."""
    _print(f"promptkit: {'; '.join(line.strip() for line in text.splitlines() if line.strip())}")


def _tell_usage(error: Exception, message: str) -> int:
    context = getattr(error, "ctx", None)
    message = message.replace(": Value error, ", ": ")  # how pydantic, which typer asks, begins
    _print(f"promptkit: {message[:1].lower()}{message[1:]}")
    if context is not None:
        _print(f"  {context.command_path} --help tells what it takes.")
    return int(getattr(error, "exit_code", 2))


def _is_of_printing(error: OSError) -> bool:
    """Whether it was met by `echo`, with which typer prints help and completions."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_code.co_name == "echo"


def _tell_unwritten(error: OSError) -> int:
    from promptkit.errors import ExitCode

    _print(f"promptkit: stdout can't be written: {error.strerror}")
    return ExitCode.STORAGE


def _tell_bug(error: Exception, *, verbose: bool) -> int:
    from promptkit.errors import ExitCode

    _print(f"promptkit: a bug: {type(error).__name__}: {error}")
    _print(f"  Please report it to {_ISSUES}" + ("." if verbose else "; --verbose adds the traceback."))
    if verbose:
        _print("".join(traceback.format_exception(error)).rstrip())
    return ExitCode.BUG


def _print(text: str) -> None:
    with suppress(OSError):  # nobody listens: that changes nothing
        print(scrub.clean(text), file=sys.stderr)


def _forgive(stream: TextIO) -> None:
    """Half a character (an emoji cut by the output limit) must not lose a text that is paid."""
    reconfigure = getattr(stream, "reconfigure", None)
    if callable(reconfigure):
        reconfigure(errors="replace")


def _flushed(code: int) -> int:
    """Flush stdout while its failure can still be told: a full disk, a closed pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _void(sys.stdout)  # the reader has gone, as `head` does
    except OSError as error:
        _void(sys.stdout)
        return code or _tell_unwritten(error)
    return code


def _void(stream: TextIO) -> None:
    """Let what is left go nowhere, or the interpreter complains about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
