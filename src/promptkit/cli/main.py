"""The process of a command: its signals, its errors as messages on stderr, its exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import NoReturn, TextIO

_COLLECT_EVERY = 200_000
"""Allocations between two runs of the garbage collector. Modules and calls make almost no cycles:
with Python's default of 700, the collector takes a tenth of a start, and of a batch."""


class Terminated(BaseException):
    """SIGTERM, as an exception: it ends the process through every `finally`, as an interrupt does."""


def run() -> NoReturn:
    """Run the command line of this process and exit."""
    gc.set_threshold(_COLLECT_EVERY)
    signal.signal(signal.SIGTERM, _raise_terminated)
    _replace_unencodable(sys.stdout)
    code = _flush(execute(sys.argv[1:]))
    gc.disable()  # otherwise the interpreter collects once more before it exits: 50 ms
    sys.exit(code)


def _raise_terminated(_number: int, _frame: object) -> None:
    raise Terminated


def _replace_unencodable(stream: TextIO) -> None:
    """Print half a character (an emoji cut by the output limit) as `?`: the text around it is paid for."""
    reconfigure = getattr(stream, "reconfigure", None)
    if callable(reconfigure):
        reconfigure(errors="replace")


def _flush(code: int) -> int:
    """Flush stdout while its failure can still be reported: a full disk, a closed pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)  # the reader is gone, such as `head`
    except OSError as error:
        _discard(sys.stdout)
        return code or _report_unwritable(error)
    return code


def _discard(stream: TextIO) -> None:
    """Send the rest of a stream to nowhere, or the interpreter complains about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; no exception leaves this function."""
    try:
        from .app import app

        return int(app(list(arguments), prog_name="promptkit", standalone_mode=False) or 0)
    except SystemExit as end:  # from typer: a completion, and 1 if the reader of stdout is gone
        return 0 if isinstance(end.__context__, BrokenPipeError) else int(end.code or 0)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - the last function that can inform the user
        return _report(error, verbose="--verbose" in arguments)


def _report(error: Exception, *, verbose: bool) -> int:
    if isinstance(error, OSError) and _is_from_printing(error):
        return _report_unwritable(error)
    usage = getattr(error, "format_message", None)  # the usage errors of click
    if callable(usage):
        return _report_usage(error, str(usage()))
    return report_error(error, verbose=verbose)


def _is_from_printing(error: OSError) -> bool:
    """Return whether `echo` raised it, with which typer prints help and completions."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_code.co_name == "echo"


def _report_unwritable(error: OSError) -> int:
    from promptkit.errors import ExitCode

    _print(f"promptkit: stdout is not writable: {error.strerror}")
    return ExitCode.STORAGE


def _report_usage(error: Exception, message: str) -> int:
    context = getattr(error, "ctx", None)
    message = message.replace(": Value error, ", ": ")  # how pydantic begins, which typer uses
    _print(f"promptkit: {message[:1].lower()}{message[1:]}")
    if context is not None:
        _print(f"  Run `{context.command_path} --help` to see its options.")
    return int(getattr(error, "exit_code", 2))


def report_error(error: Exception, *, verbose: bool = False) -> int:
    """Print what is wrong, where, and what to do next; return the exit code."""
    from promptkit.errors import AllTargetsFailed, BudgetStop, ExitCode, PromptKitError, exit_code

    code = exit_code(error)
    if code is ExitCode.BUG or not isinstance(error, PromptKitError):
        return _report_bug(error, verbose=verbose)
    _print(f"promptkit: {error}")
    if isinstance(error, AllTargetsFailed | BudgetStop):
        lines = (
            f"  {attempt.target}: {attempt.fault or attempt.state}: {attempt.detail}"
            for attempt in error.attempts
        )
        for line, equal in groupby(lines):
            count = len(list(equal))
            _print(line if count == 1 else f"{line} (x{count})")
    return code


def _report_bug(error: Exception, *, verbose: bool) -> int:
    from promptkit.errors import ExitCode

    _print(f"promptkit: this is a bug: {type(error).__name__}: {error}")
    _print(
        "  Please report it to the project's issue tracker"
        + ("." if verbose else ", with the traceback that --verbose prints.")
    )
    if verbose:
        _print("".join(traceback.format_exception(error)).rstrip())
    return ExitCode.BUG


def report_line(text: str) -> None:
    """Print an error in one line, even if its text has several."""
    _print(f"promptkit: {'; '.join(line.strip() for line in text.splitlines() if line.strip())}")


def _print(text: str) -> None:
    from .output import remove_secrets

    with suppress(OSError):  # stderr is closed: that changes nothing
        print(remove_secrets(text), file=sys.stderr)
