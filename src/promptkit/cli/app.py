"""The table of all commands, in sections. A command's module is imported when the command is called.

`--help` therefore costs no more than typer itself, and `render` never imports what `batch` needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

_WIDTH = 100


class Command(NamedTuple):
    """A command: its function (`module:name`, below `promptkit.cli`), and the first sentence of its help."""

    function: str
    help: str


class Group(NamedTuple):
    """Commands below a noun."""

    help: str
    commands: Mapping[str, Command]


Section = Mapping[str, Command | Group]


SECTIONS: Mapping[str, Section] = {
    "Make": {
        "init": Command("make.init:init", "Create a project in a folder."),
        "run": Command("make.run:run", "Make one text."),
        "batch": Command(
            "make.batch:batch", "Make a text for every row of a table, as a job that can stop and continue."
        ),
        "compare": Command(
            "make.compare:compare", "Run the same rows through several models or versions, side by side."
        ),
        "plan": Command("make.plan:plan", "Estimate the cost and duration of a batch; nothing is sent."),
        "render": Command("make.render:render", "Show the prompt that would be sent."),
        "demo": Command("make.demo:demo", "Run five rows on the embedded model, without a key."),
    },
    "Templates": {
        "templates": Group(
            "List, write, test and publish templates.",
            {
                "list": Command("templates.list:list_templates", "List all templates with their versions."),
                "show": Command("templates.show:show_template", "Show one template in full."),
                "new": Command("templates.new:new", "Create a template: a draft that renders at once."),
                "lint": Command("templates.lint:lint_templates", "Find problems in templates before a call."),
                "test": Command("templates.test:run_tests", "Run the tests in tests.toml."),
                "diff": Command("templates.diff:diff_templates", "Show what changed between two versions."),
                "publish": Command("templates.publish:publish", "Seal the draft as the next version."),
                "promote": Command("templates.promote:promote", "Move a label to a published version."),
                "rollback": Command(
                    "templates.rollback:rollback", "Move a label back to its previous version."
                ),
            },
        )
    },
    "Ledger": {
        "log": Command("ledger.log:log", "List calls, newest first."),
        "show": Command("ledger.show:show", "Show one call in full."),
        "retake": Command("ledger.retake:retake", "Make a text again after a client's note."),
        "rate": Command("ledger.rate:rate", "Record a client's verdict on replies: accept, reject or clear."),
        "report": Command("ledger.report:report", "Add up costs by client, template, day or any tag."),
        "budgets": Command("ledger.budgets:budgets", "Show every cap: spent, reserved, and left."),
        "jobs": Group(
            "List jobs; continue, stop, redo or export one.",
            {
                "list": Command("jobs.list:list_jobs", "List the jobs, newest first."),
                "show": Command("jobs.show:show_job", "Show one job in full."),
                "watch": Command("jobs.watch:watch", "Show the progress of a job in another process."),
                "resume": Command("jobs.resume:resume", "Continue a job with the options it started with."),
                "redo": Command("jobs.redo:redo", "Write rows of a job again with another version."),
                "cancel": Command("jobs.cancel:cancel", "Stop a job for good, whichever process runs it."),
                "export": Command("jobs.export:export", "Write a job's output again, from the ledger."),
            },
        ),
        "db": Group(
            "Maintain the ledger's database.",
            {
                "migrate": Command("ledger.db:migrate", "Bring the database to this version's schema."),
                "backup": Command(
                    "ledger.db:backup", "Copy the database into a new file, also while a batch is running."
                ),
                "prune": Command("ledger.db:prune", "Erase old texts; costs are kept."),
                "forget": Command(
                    "ledger.db:forget", "Erase the texts of a client, or of single calls; costs are kept."
                ),
                "path": Command("ledger.db:path", "Print the path of the database."),
            },
        ),
    },
    "Providers": {
        "providers": Group(
            "List and check providers.",
            {
                "list": Command(
                    "providers.list:list_providers",
                    "List providers and targets: keys, limits, prices, and open circuits.",
                ),
                "check": Command(
                    "providers.check:check", "Check key, address and models of each provider, free of charge."
                ),
                "reset": Command("providers.reset:reset", "Close the circuits of a provider."),
            },
        ),
        "simulate": Command(
            "providers.simulate:simulate", "Run a local server that imitates OpenAI, Anthropic and Gemini."
        ),
        "drill": Command("providers.drill:drill", "Rehearse provider outages with your own configuration."),
    },
    "Machine": {
        "doctor": Command("machine.doctor:doctor", "Check this machine, the configuration and the ledger."),
        "local": Group(
            "The embedded model.",
            {"fetch": Command("machine.local:fetch", "Download the embedded model's weights (93 MB, once).")},
        ),
    },
}


class LazyGroup(TyperGroup):
    """Commands in sections, each imported when it is called."""

    sections: ClassVar[Mapping[str, Section]] = {}

    def list_commands(self, ctx: typer.Context) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - typer's public name of the same class
        """Return all names, in the order of the sections."""
        del ctx
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Build the command of that name."""
        del ctx
        if cmd_name not in self.commands:
            entry = next(
                (section[cmd_name] for section in self.sections.values() if cmd_name in section), None
            )
            if entry is None:
                return None
            self.commands[cmd_name] = (
                _group(cmd_name, entry) if isinstance(entry, Group) else load(cmd_name, entry)
            )
        return self.commands[cmd_name]

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Find the command that is called; for an unknown one, suggest the closest."""
        self.get_command(ctx, args[0])
        known, self.commands = self.commands, dict.fromkeys(self.list_commands(ctx)) | dict(self.commands)
        try:
            return super().resolve_command(ctx, args)
        finally:
            self.commands = known

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write the commands by section, with the first sentence of each one's help."""
        del ctx
        width = max(len(name) for section in self.sections.values() for name in section)
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in section.items()])


class _Root(LazyGroup):
    sections = SECTIONS


def load(name: str, command: Command) -> Any:
    """Import the module of a command, and build the command."""
    from .command import as_command

    module, _, function = command.function.partition(":")
    return as_command(name, getattr(import_module(f".{module}", __package__), function))


def _group(name: str, group: Group) -> Any:
    kind = type("_Group", (LazyGroup,), {"sections": {"Commands": group.commands}})
    return get_command(_typer(kind, _print_help, name=name, help_=group.help, add_completion=False))


def _typer(
    kind: type[TyperGroup], callback: Any, *, help_: str, name: str | None = None, add_completion: bool
) -> typer.Typer:
    app_ = typer.Typer(
        name=name,
        cls=kind,
        help=help_,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=add_completion,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    )
    app_.callback()(callback)
    return app_


def _print_help(ctx: typer.Context) -> None:
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
    _print_help(ctx)


app: Any = get_command(
    _typer(
        _Root,
        _root,
        help_="Turn prompt templates in git into finished texts: within the budget, without paying twice, "
        "and without losing a row.\n\nStart with `promptkit demo`: it needs no key.",
        add_completion=True,
    )
)
"""The whole command line; called with arguments, it runs one command and returns its exit code."""


def helps(width: int = _WIDTH) -> Iterator[tuple[str, str]]:
    """Yield the full name and the help of every command that is no group, for the documentation."""
    top = typer.Context(app, info_name="promptkit")
    for name in app.list_commands(top):
        yield from _help_texts(app.get_command(top, name), name, top, width)


def _help_texts(command: Any, name: str, parent: typer.Context, width: int) -> Iterator[tuple[str, str]]:
    ctx = typer.Context(
        command, info_name=name, parent=parent, terminal_width=width, help_option_names=["-h", "--help"]
    )
    if isinstance(command, LazyGroup):
        for subcommand in command.list_commands(ctx):
            yield from _help_texts(command.get_command(ctx, subcommand), subcommand, ctx, width)
    else:
        yield ctx.command_path, command.get_help(ctx)
