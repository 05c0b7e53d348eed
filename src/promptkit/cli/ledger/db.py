"""`promptkit db`: migrate, back up and erase the database of the ledger."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from promptkit.cli import values
from promptkit.cli.command import Cli
from promptkit.cli.output import to_json
from promptkit.cli.views.call import find_call
from promptkit.errors import UsageError, counted
from promptkit.ledger.erasing import Erase
from promptkit.ledger.records import JobState

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger

_LATEST_JOBS = 200
"""How many of the latest jobs `forget` checks for running processes."""

NewFile = Annotated[Path, Argument(metavar="FILE", help="The new file; an existing one is not overwritten.")]
Before = Annotated[
    str | None, Option("--before", metavar="DATE", help="Texts of calls that ended before: 2026-08-01, 90d.")
]
OlderThan = Annotated[
    str | None, Option("--older-than", metavar="AGE", help="Texts of calls that are older: 90d, 12w.")
]
Tags = Annotated[
    list[str] | None,
    Option("--tag", metavar="K=V", help="Texts of calls and rows with this tag; of several, with all."),
]
Calls = Annotated[
    list[str] | None, Option("--call", metavar="ID", help="Texts of this call, as log prints it. Repeatable.")
]
Yes = Annotated[bool, Option("--yes", help="Don't ask. Required without a terminal.")]
DryRun = Annotated[bool, Option("--dry-run", help="Only count.")]


def migrate(cli: Cli) -> None:
    """Bring the database to this version's schema.

    Every command does this when it opens the ledger; `migrate` does nothing else. It is safe while
    other processes start.

    Examples:
        promptkit db migrate
    """
    settings = cli.settings()
    with cli.ledger(settings):
        from promptkit.ledger.database import HEAD

        cli.print(f"{settings.database_path}: schema {HEAD}")


def backup(cli: Cli, file: NewFile) -> None:
    """Copy the database into a new file, also while a batch is running.

    The copy is complete and compact, and only you can read it.

    Examples:
        promptkit db backup /backups/promptkit-2026-11-21.db
    """
    with cli.ledger(cli.settings()) as ledger:
        cli.print(str(ledger.backup(file)))


def path(cli: Cli) -> None:
    """Print the path of the database.

    Examples:
        sqlite3 "$(promptkit db path)" .tables
    """
    cli.print(str(cli.settings().database_path))


def prune(
    cli: Cli, before: Before = None, older_than: OlderThan = None, yes: Yes = False, dry_run: DryRun = False
) -> None:
    """Erase old texts; costs are kept.

    It overwrites the variables, replies and error texts of calls that ended before the time, and the
    cells of their rows, in the database file. Costs, tokens, tags, keys, verdicts and digests stay.
    Open jobs keep their texts. You can run it while a batch is running.

    Examples:
        promptkit db prune --older-than 90d --dry-run
        promptkit db prune --before 2026-08-01 --yes
    """
    if (before is None) == (older_than is None):
        raise UsageError("prune takes --before or --older-than", remedy="For example --older-than 90d")
    text, option = (before, "--before") if before is not None else (older_than, "--older-than")
    settings = cli.settings()
    at = values.read_time(text or "", datetime.now(UTC), settings.timezone, option=option)
    if at > datetime.now(UTC):
        raise UsageError(f"{option} {text} is in the future")
    with cli.ledger(settings) as ledger:
        _erase(cli, ledger, Erase(before_us=int(at.timestamp() * 1e6)), yes=yes, dry_run=dry_run)


def forget(cli: Cli, tag: Tags = None, call: Calls = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Erase the texts of a client, or of single calls; costs are kept.

    It erases the calls with the tag, all calls that descend from them (retakes, next steps of a
    chain), those that used their replies from the reply cache, and the rows of jobs with the tag.
    Variables, replies, error texts and cells are overwritten in the database file. Costs, tokens,
    tags, keys, verdicts and digests stay, so put no personal data into tags and keys. You have to
    delete the files that batches wrote, and backups, yourself.

    Examples:
        promptkit db forget --tag client=barly --dry-run
        promptkit db forget --tag client=barly --yes
        promptkit db forget --call 38g0qj26
    """
    tags = values.read_tags(tag)
    if bool(tags) == bool(call):
        raise UsageError("forget takes --tag or --call", remedy="For example --tag client=barly")
    with cli.ledger(cli.settings()) as ledger:
        call_ids = tuple(find_call(ledger, text) for text in call or ())
        _erase(cli, ledger, Erase(tags, call_ids), yes=yes, dry_run=dry_run)
        for job in ledger.jobs.newest(_LATEST_JOBS) if tags and not dry_run else ():
            if job.state is JobState.OPEN and ledger.jobs.runner(job) is not None:
                cli.notice(
                    f"job {job.name} is running and may still send rows that it has read; "
                    "run this command again when it has ended"
                )


def _erase(cli: Cli, ledger: Ledger, selection: Erase, *, yes: bool, dry_run: bool) -> None:
    erasable = ledger.erasable(selection)
    counts = f"{counted(erasable.calls, 'call')} and {counted(erasable.rows, 'row')}"
    if not dry_run and not erasable.nothing:
        _confirm(counts, yes=yes)
        if not asyncio.run(ledger.erase(selection)):
            cli.notice(
                "the log of the database (-wal) still contains old pages, because another program is "
                "reading; run this command again"
            )
    if cli.as_json:
        cli.print_json(to_json(erasable, erased=not dry_run))
    elif erasable.nothing:
        cli.notice("there are no such texts")
    else:
        cli.notice(f"{'would erase' if dry_run else 'erased'} the texts of {counts}; costs are kept")
    if erasable.open_calls:
        cli.notice(
            f"{counted(erasable.open_calls, 'call')} still open; run this command again when they have ended"
        )


def _confirm(counts: str, *, yes: bool) -> None:
    """LeaseRequest on a terminal.

    Raises:
        UsageError: the user refuses, or there is no terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would erase the texts of {counts} for good: nothing was erased",
            remedy="Add --yes to erase them.",
        )
    if not typer.confirm(f"Erase the texts of {counts} for good?", err=True):
        raise UsageError("nothing was erased")
