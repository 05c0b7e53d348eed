"""The commands, by what they are for. A command's module is imported when the command is called.

So `--help` costs no more than typer itself, and `render` never pays for what `batch` needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

_WIDTH: Final = 100


class Command(NamedTuple):
    """A command: where its function stands (`module:name`), and the first sentence of its help."""

    where: str
    help: str


class Group(NamedTuple):
    """Commands below a noun."""

    help: str
    commands: Mapping[str, Command]


Section = Mapping[str, Command | Group]


SECTIONS: Final[Mapping[str, Section]] = {
    "Make": {
        "init": Command("starting:init", "Start a project of your own in a folder."),
        "run": Command("making:run", "Make one text now."),
        "batch": Command(
            "batching:batch", "Make a text for every row of a table, as a job that can stop and go on."
        ),
        "compare": Command(
            "comparing:compare", "Make the same texts by several targets or versions, side by side."
        ),
        "plan": Command("planning:plan", "Tell what a batch would cost and take, before anything is sent."),
        "render": Command("making:render", "Show what exactly would be sent."),
        "demo": Command("starting:demo", "See it work here, with no key, on the embedded model."),
    },
    "Templates": {
        "templates": Group(
            "The templates: which there are, and what one takes.",
            {
                "list": Command("templates:list_templates", "List all templates with their versions."),
                "show": Command("templates:show_template", "Show one template in full."),
                "new": Command("versions:new", "Begin a template: a draft that renders at once."),
                "lint": Command(
                    "linting:lint_templates", "Find what is wrong with templates before they are sent."
                ),
                "test": Command(
                    "trials:try_templates", "Run the tests that stand beside templates, in tests.toml."
                ),
                "diff": Command("differences:diff_templates", "Show what changed between two versions."),
                "publish": Command("versions:publish", "Seal the draft as the next version, for good."),
                "promote": Command("versions:promote", "Put a label on a published version."),
                "rollback": Command("versions:rollback", "Put a label back on what it meant before."),
            },
        ),
    },
    "Books": {
        "log": Command("books:log", "List the calls that were made, newest first."),
        "show": Command("books:show", "Show one call in full."),
        "retake": Command("verdicts:retake", "Make a text again after a client's note."),
        "rate": Command(
            "verdicts:rate", "Say what became of replies: accept, reject, or clear to take it back."
        ),
        "report": Command("reporting:report", "Add up what was spent, by client, template, day ..."),
        "jobs": Group(
            "The jobs: how each stands, and how to go on with one, stop one, or write it out again.",
            {
                "list": Command("jobs:list_jobs", "List the jobs, newest first."),
                "show": Command("jobs:show_job", "Show one job in full."),
                "watch": Command("watching:watch", "Show how a job gets on that another process runs."),
                "resume": Command("jobs:resume", "Go on with a job as it began."),
                "redo": Command("redoing:redo", "Make rows of a job again with another version."),
                "cancel": Command("jobs:cancel", "Stop a job for good, whichever process runs it."),
                "export": Command("jobs:export", "Write a job's output again, from the ledger."),
            },
        ),
        "budgets": Command("budgets:budgets", "Show every cap: spent, held, and what it would refuse."),
    },
    "Providers": {
        "providers": Group(
            "The providers: targets, prices, keys, and whether they answer.",
            {
                "list": Command(
                    "providers:list_providers",
                    "List providers and targets: keys, limits, prices, and what is closed until when.",
                ),
                "check": Command(
                    "providers:check", "Check key, address and models of each provider, free of charge."
                ),
                "reset": Command(
                    "lanes:reset",
                    "Open all that is closed of a provider: it is asked again at once, by running jobs too.",
                ),
            },
        ),
        "simulate": Command("simulating:simulate", "Play OpenAI, Anthropic and Gemini on this machine."),
        "drill": Command("drilling:drill", "Rehearse outages: what would each do to this very setup."),
    },
    "Machine": {
        "doctor": Command("doctor:doctor", "Examine this machine, the configuration and the ledger."),
        "local": Group(
            "The embedded model.",
            {"fetch": Command("machine:fetch", "Bring the embedded model's weights (93 MB, once).")},
        ),
        "db": Group(
            "Care of the ledger's database.",
            {
                "migrate": Command("machine:migrate", "Bring the database to this version's schema."),
                "backup": Command(
                    "machine:backup", "Copy the database into a new file, also while a batch is running."
                ),
                "prune": Command("erasing:prune", "Erase old texts; costs are kept."),
                "forget": Command(
                    "erasing:forget", "Erase the texts of a client, or of single calls; costs are kept."
                ),
                "path": Command("machine:path", "Print where the database is."),
            },
        ),
    },
}


class LazyGroup(TyperGroup):
    """Commands in sections, each imported when it is called."""

    sections: ClassVar[Mapping[str, Section]] = {}

    def list_commands(self, ctx: typer.Context) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - typer's public name of the same class
        """All names, in the order of the sections."""
        del ctx
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The command of that name, built now."""
        del ctx
        if cmd_name not in self.commands:
            found = next(
                (section[cmd_name] for section in self.sections.values() if cmd_name in section), None
            )
            if found is None:
                return None
            self.commands[cmd_name] = (
                _group(cmd_name, found) if isinstance(found, Group) else load(cmd_name, found)
            )
        return self.commands[cmd_name]

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Find the command that is called; an unknown one is answered with the closest."""
        self.get_command(ctx, args[0])
        known, self.commands = self.commands, dict.fromkeys(self.list_commands(ctx)) | dict(self.commands)
        try:
            return super().resolve_command(ctx, args)
        finally:
            self.commands = known

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The commands by section, with the first sentence of each one's help."""
        del ctx
        width = max(len(name) for section in self.sections.values() for name in section)
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in section.items()])


class _Root(LazyGroup):
    sections = SECTIONS


def load(name: str, command: Command) -> Any:
    """The command behind an entry: its module is imported here."""
    from .face import as_command

    module, _, function = command.where.partition(":")
    return as_command(name, getattr(import_module(f".{module}", __package__), function))


def _group(name: str, group: Group) -> Any:
    kind = type("_Group", (LazyGroup,), {"sections": {"Commands": group.commands}})
    return get_command(_typer(kind, _help_alone, name=name, help_=group.help, add_completion=False))


def _typer(
    kind: type[TyperGroup], callback: Any, *, help_: str, name: str | None = None, add_completion: bool
) -> typer.Typer:
    made = typer.Typer(
        name=name,
        cls=kind,
        help=help_,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=add_completion,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    )
    made.callback()(callback)
    return made


def _help_alone(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"promptkit {version('promptkit-router')}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    _help_alone(ctx)


app: Any = get_command(
    _typer(
        _Root,
        _root,
        help_="Prompt templates kept in git, turned into finished text: never over budget, never paying twice, "
        "never losing a row.\n\nBegin with `promptkit demo`: it needs no key.",
        add_completion=True,
    )
)
"""The whole command line: called with arguments, it runs one command and returns its exit code."""


def helps(width: int = _WIDTH) -> Iterator[tuple[str, str]]:
    """The help of every command that is no group, by its full name, for the documentation."""
    top = typer.Context(app, info_name="promptkit")
    for name in app.list_commands(top):
        yield from _helps(app.get_command(top, name), name, top, width)


def _helps(command: Any, name: str, parent: typer.Context, width: int) -> Iterator[tuple[str, str]]:
    ctx = typer.Context(
        command, info_name=name, parent=parent, terminal_width=width, help_option_names=["-h", "--help"]
    )
    if isinstance(command, LazyGroup):
        for below in command.list_commands(ctx):
            yield from _helps(command.get_command(ctx, below), below, ctx, width)
    else:
        yield ctx.command_path, command.get_help(ctx)
