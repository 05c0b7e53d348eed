"""What every command has: the common options, its streams, and its place in the command line.

A command is a function whose first parameter is a `Cli`. `as_command` adds the common options.
Data goes to stdout, everything else to stderr. The `Examples:` of the docstring end its help.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer
from typer.main import get_command

from .output import Page, Table, remember_secrets, remove_secrets

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.engine.context import Session
    from promptkit.ledger.ledger import Ledger

_EXAMPLES = "\n\nExamples:\n"

_COMMON: Mapping[str, Any] = {
    "config": Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Use this promptkit.toml instead of the nearest one."),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON for programs.")],
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Print only data and errors.")],
    "verbose": Annotated[bool, typer.Option("--verbose", help="Print more, and tracebacks of bugs.")],
    "no_color": Annotated[bool, typer.Option("--no-color", help="No colors (NO_COLOR does the same).")],
}

_QUIET_WITHOUT_Q = Annotated[bool, typer.Option("--quiet", help="Print only data and errors.")]
"""For commands that use `-q` for something else."""


@dataclass(frozen=True, slots=True)
class Cli:
    """The common options of one run of a command, and its two streams."""

    config: Path | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    def settings(self) -> Settings:
        """Read the configuration; its keys stay out of every message from now on."""
        from promptkit._util.notices import show_notices
        from promptkit.engine.context import load_settings

        show_notices(self.notice)
        settings = load_settings(self.config)
        remember_secrets(settings.keys.secrets())
        return settings

    def session(self, settings: Settings | None = None, *, by_hand: bool = False) -> Session:
        """Return a session with nothing open yet; see `Session` for `by_hand`."""
        from promptkit.engine.context import Session

        return Session(settings or self.settings(), ignore_temporary=by_hand)

    @contextmanager
    def ledger(self, settings: Settings) -> Generator[Ledger, None, None]:
        """Open the ledger to read it; a missing one is not created.

        Raises:
            LedgerError: it is not usable, or there is none yet.
        """
        from promptkit.errors import LedgerError

        path = settings.database_path
        if not path.exists():
            raise LedgerError(
                "there is no ledger yet, because no call was made",
                file=path,
                remedy="Run `promptkit demo` to make the first calls; it needs no key.",
            )
        from promptkit.ledger.ledger import Ledger

        with Ledger.open(path) as ledger:
            yield ledger

    def print(self, text: str) -> None:
        """Print data on stdout.

        Raises:
            OutputError: stdout is not writable. (If its reader is gone, it is a `BrokenPipeError`.)
        """
        with _printing():
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    def print_bytes(self, data: bytes) -> None:
        """Print data with its own encoding and line ends on stdout; raise as `print` does."""
        with _printing():
            sys.stdout.buffer.write(data)

    def print_json(self, value: object) -> None:
        """Print one JSON document on stdout."""
        self.print(json.dumps(value, ensure_ascii=False, indent=2))

    def print_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table on stdout; see `Table` for the columns."""
        self.print(Table(columns, rows).text(color=self.color))

    def print_page(self, page: Page) -> None:
        """Print a page on stdout."""
        self.print(page.text(color=self.color))

    def notice(self, text: str) -> None:
        """Print a notice on stderr, unless --quiet is given."""
        if not self.quiet:
            with suppress(OSError):  # stderr is closed: that stops no job
                print(remove_secrets(f"promptkit: {text}"), file=sys.stderr)

    @property
    def color(self) -> bool:
        """Whether stdout is a terminal that may show colors."""
        return sys.stdout.isatty() and self.may_color

    @property
    def may_color(self) -> bool:
        """Whether colors are wanted on a terminal that can show them."""
        return not self.no_color and "NO_COLOR" not in os.environ


@contextmanager
def _printing() -> Generator[None, None, None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as cause:
        from promptkit.errors import OutputError

        raise OutputError(f"stdout is not writable: {cause.strerror}") from cause


def as_command(name: str, function: Callable[..., int | None]) -> Any:
    """Turn a function into a command: it gets a `Cli`, and returns an exit code or None."""
    text, _, examples = inspect.cleandoc(function.__doc__ or "").partition(_EXAMPLES)
    lines = inspect.cleandoc(examples).splitlines()
    app = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    # \b keeps a paragraph as it is written.
    app.command(name, help=text, epilog="\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)]))(
        _with_common_options(function)
    )
    return get_command(app)


def _with_common_options(function: Callable[..., int | None]) -> Callable[..., int]:
    """Return the function as typer sees it: the common options instead of `cli`."""
    hints = get_type_hints(function, include_extras=True)
    own = [parameter for name, parameter in inspect.signature(function).parameters.items() if name != "cli"]
    common = dict(_COMMON)
    if any("-q" in _flags(hints[parameter.name]) for parameter in own):
        common["quiet"] = _QUIET_WITHOUT_Q

    @wraps(function)
    def command(**options: Any) -> int:
        cli = Cli(**{name: options.pop(name) for name in common})
        return function(cli, **options) or 0

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=keyword, annotation=hints[parameter.name]) for parameter in own]
    parameters += [
        inspect.Parameter(name, keyword, annotation=kind, default=None if name == "config" else False)
        for name, kind in common.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue] - what typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _flags(annotation: Any) -> tuple[object, ...]:
    """Return the flags of an option's annotation (typer keeps the first one as its `default`)."""
    infos = [info for info in get_args(annotation) if hasattr(info, "param_decls")]
    return next(((info.default, *(info.param_decls or ())) for info in infos), ())
