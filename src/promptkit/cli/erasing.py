"""The commands that erase texts from the ledger: `db prune` by age, `db forget` by tag or call."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from promptkit.cli import option_texts
from promptkit.errors import UsageError, counted
from promptkit.ledger.erasing import Erasable, Erase
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import JobState
from promptkit.types import Json

from .call_page import find_call
from .face import Face
from .times import read_time

_LATEST: Final = 200
"""So many of the latest jobs are asked whether they run."""


Before = Annotated[
    str | None, typer.Option("--before", metavar="DATE", help="Of calls that ended before: 2026-08-01, 90d.")
]


OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="The same by age: 90d, 12w.")
]


Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="K=V", help="Of calls and rows with that tag; of several, with all."),
]


Calls = Annotated[
    list[str] | None, typer.Option("--call", metavar="ID", help="Of that call, as log prints it. Repeatable.")
]


Yes = Annotated[bool, typer.Option("--yes", help="Don't ask; needed where nobody can answer.")]


DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]


def prune(
    face: Face, before: Before = None, older_than: OlderThan = None, yes: Yes = False, dry_run: DryRun = False
) -> None:
    """Erase old texts; costs are kept.

    Variables, replies and error texts of calls that ended before the time, and the cells of their
    rows, are overwritten in the database file. Costs, tokens, tags, keys, verdicts and digests stay.
    Open jobs keep theirs. It can be done while a batch is running.

    Examples:
        promptkit db prune --older-than 90d --dry-run
        promptkit db prune --before 2026-08-01 --yes
    """
    if (before is None) == (older_than is None):
        raise UsageError("prune takes --before or --older-than", remedy="For example --older-than 90d")
    text, option = (before, "--before") if before is not None else (older_than, "--older-than")
    settings = face.settings()
    at = read_time(text or "", datetime.now(UTC), settings.timezone, option=option)
    if at > datetime.now(UTC):
        raise UsageError(f"{option} {text} lies in the future")
    with face.ledger(settings) as ledger:
        _erase(face, ledger, Erase(before_us=int(at.timestamp() * 1e6)), yes=yes, dry_run=dry_run)


def forget(
    face: Face, tag: Tags = None, call: Calls = None, yes: Yes = False, dry_run: DryRun = False
) -> None:
    """Erase the texts of a client, or of single calls; costs are kept.

    The calls with the tag, all calls that go back to them (retakes, next steps of a chain), those that
    the reply cache served with their replies, and the rows of jobs with the tag. Variables, replies, error texts and cells are overwritten in the
    database file. Costs, tokens, tags, keys, verdicts and digests stay: put no personal data into
    tags and keys. Files that batches wrote, and backups, are yours to delete.

    Examples:
        promptkit db forget --tag client=barly --dry-run
        promptkit db forget --tag client=barly --yes
        promptkit db forget --call 38g0qj26
    """
    tags = option_texts.read_tags(tag)
    if bool(tags) == bool(call):
        raise UsageError("forget takes --tag or --call", remedy="For example --tag client=barly")
    with face.ledger(face.settings()) as ledger:
        ids = tuple(find_call(ledger, one) for one in call or ())
        _erase(face, ledger, Erase(tags, ids), yes=yes, dry_run=dry_run)
        for job in ledger.jobs.newest(_LATEST) if tags and not dry_run else ():
            if job.state is JobState.OPEN and ledger.jobs.runner(job) is not None:
                face.say(
                    f"job {job.name} runs: rows that it has read may still be sent; run this again when it has ended"
                )


def _erase(face: Face, ledger: Ledger, what: Erase, *, yes: bool, dry_run: bool) -> None:
    found = ledger.erasable(what)
    told = f"{counted(found.calls, 'call')} and {counted(found.rows, 'row')}"
    if not dry_run and not found.nothing:
        _check_agreed(told, yes=yes)
        gone = asyncio.run(ledger.erase(what))
        if not gone:
            face.say(
                "the log of the database (-wal) still has old pages: another program reads; run it again"
            )
    if face.as_json:
        face.print_json(_json(found, erased=not dry_run))
    elif found.nothing:
        face.say("there are no such texts")
    else:
        face.say(f"{'would erase' if dry_run else 'erased'} the texts of {told}; costs are kept")
    if found.open_calls:
        face.say(f"{counted(found.open_calls, 'call')} of them still open: run it again when they have ended")


def _check_agreed(told: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere nobody can answer.

    Raises:
        UsageError: nobody agreed.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would erase the texts of {told} for good: nothing was erased",
            remedy="Say --yes if you mean it.",
        )
    if not typer.confirm(f"Erase the texts of {told} for good?", err=True):
        raise UsageError("nothing was erased")


def _json(found: Erasable, *, erased: bool) -> dict[str, Json]:
    return {"calls": found.calls, "rows": found.rows, "open_calls": found.open_calls, "erased": erased}
