"""What every command has: the same options, and one way to print.

Data goes to stdout, everything else to stderr. A command is a function whose first parameter is
its `Face`; `Commands.add` gives it the common options.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from promptkit.errors import ExitCode

if TYPE_CHECKING:
    from promptkit.config import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The promptkit.toml to use instead of the one that is found."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but data and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say more; a bug comes with its traceback.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (NO_COLOR does the same).")]

_COMMON: Final[Mapping[str, Any]] = {
    "config": Config,
    "as_json": Json,
    "quiet": Quiet,
    "verbose": Verbose,
    "no_color": NoColor,
}


@dataclass(frozen=True, slots=True)
class Face:
    """The common options of one run, and the two streams."""

    config: Path | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    def settings(self) -> Settings:
        """The configuration, read now."""
        from promptkit.session import load_settings

        return load_settings(self.config)

    def print(self, text: str) -> None:
        """Data, on stdout."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    def print_json(self, value: object) -> None:
        """Data for programs: one JSON document."""
        self.print(json.dumps(value, ensure_ascii=False, indent=2))

    def say(self, text: str) -> None:
        """A notice, on stderr; not with --quiet."""
        if not self.quiet:
            print(f"promptkit: {text}", file=sys.stderr)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
    ) -> None:
        """A table for people, on stdout."""
        from .table import print_table

        print_table(columns, rows, title=title, color=self.color)

    @property
    def color(self) -> bool:
        """Whether stdout is a terminal that may show colours."""
        return sys.stdout.isatty() and not self.no_color and "NO_COLOR" not in os.environ


class Commands:
    """A group of commands."""

    def __init__(self, name: str | None = None, help_: str | None = None) -> None:
        self.typer = typer.Typer(
            name=name,
            help=help_,
            no_args_is_help=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            add_completion=name is None,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def group(self, commands: Commands) -> None:
        """Put a group of commands below this one."""
        self.typer.add_typer(commands.typer)

    def add(self, name: str) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
        """Register a command. Its function takes a `Face` and its own options, and returns an exit code or None."""

        def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
            self.typer.command(name)(_with_common_options(function))
            return function

        return register


def _with_common_options(function: Callable[..., int | None]) -> Callable[..., None]:
    """The function as typer sees it: the face replaced by the common options."""
    hints = get_type_hints(function, include_extras=True)
    own = [parameter for name, parameter in inspect.signature(function).parameters.items() if name != "face"]

    @wraps(function)
    def command(**options: Any) -> None:
        face = Face(**{name: options.pop(name) for name in _COMMON})
        code = function(face, **options)
        raise typer.Exit(code or ExitCode.OK)

    common = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None if name == "config" else False
        )
        for name, kind in _COMMON.items()
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in own]
    command.__signature__ = inspect.Signature([*parameters, *common])  # pyright: ignore[reportAttributeAccessIssue] - what typer reads
    command.__annotations__ = {one.name: one.annotation for one in (*parameters, *common)}
    return command
