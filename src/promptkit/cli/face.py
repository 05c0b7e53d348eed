"""What every command has: the same options, and one way to print.

Data goes to stdout, everything else to stderr. A command is a function whose first parameter is
its `Face`; `as_command` gives it the common options. The `Examples:` of its docstring stand at
the end of its help as they are written.
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
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

import typer
from typer.main import get_command

from promptkit.cli import scrub

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.engine.context import Session
    from promptkit.ledger.ledger import Ledger


_COMMON: Final[Mapping[str, Any]] = {
    "config": Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The promptkit.toml to use instead of the one that is found."
        ),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON for programs.")],
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but data and errors.")],
    "verbose": Annotated[bool, typer.Option("--verbose", help="Say more; a bug comes with its traceback.")],
    "no_color": Annotated[bool, typer.Option("--no-color", help="No colours (NO_COLOR does the same).")],
}


_QUIET_ALONE: Final = Annotated[bool, typer.Option("--quiet", help="Print nothing but data and errors.")]


_EXAMPLES: Final = "\n\nExamples:\n"


@dataclass(frozen=True, slots=True)
class Face:
    """The common options of one run, and the two streams."""

    config: Path | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    def settings(self) -> Settings:
        """The configuration, read now; its keys are scrubbed from all that is said from here on."""
        from promptkit.engine.context import load_settings

        settings = load_settings(self.config)
        scrub.remember(settings.keys.secrets())
        return settings

    def session(self, settings: Settings | None = None, *, by_hand: bool = False) -> Session:
        """One process at work, with nothing open yet; see `Session` for `by_hand`."""
        from promptkit.engine.context import Session

        return Session(settings or self.settings(), self.say, by_hand=by_hand)

    @contextmanager
    def ledger(self, settings: Settings) -> Generator[Ledger, None, None]:
        """The ledger as it is on disk, to be read; a missing one is not made.

        Raises:
            LedgerError: it can't be used, or there is none yet.
        """
        from promptkit.errors import LedgerError

        path = settings.database_path
        if not path.exists():
            raise LedgerError(
                "there is no ledger yet: no call was made",
                file=path,
                remedy="promptkit demo makes the first ones, with no key.",
            )
        from promptkit.ledger.ledger import Ledger

        with Ledger.open(path) as ledger:
            yield ledger

    def print(self, text: str) -> None:
        """Data, on stdout.

        Raises:
            OutputError: it can't be written. (A reader that has gone is a `BrokenPipeError`.)
        """
        with _printing():
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    def print_bytes(self, data: bytes) -> None:
        """Data in an encoding and with line ends of its own, on stdout; raises as `print` does."""
        with _printing():
            sys.stdout.buffer.write(data)

    def print_json(self, value: object) -> None:
        """Data for programs: one JSON document."""
        self.print(json.dumps(value, ensure_ascii=False, indent=2))

    def say(self, text: str) -> None:
        """A notice, on stderr; not with --quiet."""
        if not self.quiet:
            with suppress(OSError):  # nobody listens: that stops no job
                print(scrub.clean(f"promptkit: {text}"), file=sys.stderr)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
    ) -> None:
        """A table for people, on stdout; `>` before a column's name sets it to the right, `~` lets it fold."""
        from .table import drawn

        self.print(drawn(columns, rows, title=title, color=self.color))

    @property
    def color(self) -> bool:
        """Whether stdout is a terminal that may show colours."""
        return sys.stdout.isatty() and self.may_color

    @property
    def may_color(self) -> bool:
        """Whether colours are wanted where a terminal can show them."""
        return not self.no_color and "NO_COLOR" not in os.environ


@contextmanager
def _printing() -> Generator[None, None, None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as cause:
        from promptkit.errors import OutputError

        raise OutputError(f"stdout can't be written: {cause.strerror}") from cause


def as_command(name: str, function: Callable[..., int | None]) -> Any:
    """A function as a command: its `Face` comes from the common options; it returns an exit code or None."""
    text, _, examples = inspect.cleandoc(function.__doc__ or "").partition(_EXAMPLES)
    lines = inspect.cleandoc(examples).splitlines()
    one = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    # \b keeps a paragraph as it is written.
    one.command(name, help=text, epilog="\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)]))(
        _with_common_options(function)
    )
    return get_command(one)


def _with_common_options(function: Callable[..., int | None]) -> Callable[..., int]:
    """The function as typer sees it: the face replaced by the common options."""
    hints = get_type_hints(function, include_extras=True)
    own = [parameter for name, parameter in inspect.signature(function).parameters.items() if name != "face"]
    common = dict(_COMMON)
    if any("-q" in _flags(hints[one.name]) for one in own):
        common["quiet"] = _QUIET_ALONE

    @wraps(function)
    def command(**options: Any) -> int:
        face = Face(**{name: options.pop(name) for name in common})
        return function(face, **options) or 0

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in own]
    parameters += [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None if name == "config" else False
        )
        for name, kind in common.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue] - what typer reads
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _flags(annotation: Any) -> tuple[object, ...]:
    """The flags that an option's annotation names (typer keeps the first one as its `default`)."""
    infos = [one for one in get_args(annotation) if hasattr(one, "param_decls")]
    return next(((one.default, *(one.param_decls or ())) for one in infos), ())
