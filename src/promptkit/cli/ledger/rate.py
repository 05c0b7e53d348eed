"""`promptkit rate`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from typer import Argument, Option

from promptkit.cli.command import Cli
from promptkit.cli.views.call import find_call
from promptkit.errors import UsageError, counted
from promptkit.types.ids import show_id

_VERDICTS = ("accept", "reject", "clear")

Words = Annotated[list[str], Argument(metavar="CALL... VERDICT", help="Calls, then accept, reject or clear.")]
Why = Annotated[str | None, Option("--note", metavar="TEXT", help="The reason, in a few words.")]


def rate(cli: Cli, words: Words, note: Why = None) -> None:
    """Record a client's verdict on replies: accept, reject or clear.

    `clear` removes a verdict.

    Examples:
        promptkit rate 38g0qj26 accept
        promptkit rate 38g0qj26 38g0qj2f reject --note "too long for the first 3 s"
        promptkit log --verdict reject --since 7d
    """
    *calls, verdict = words
    if verdict not in _VERDICTS or not calls:
        raise UsageError(
            f"rate {' '.join(words)} does not end with a verdict"
            if calls
            else "rate takes calls and a verdict",
            remedy="For example promptkit rate 38g0qj26 accept (or reject, clear)",
        )
    with cli.ledger(cli.settings()) as ledger:
        call_ids = [find_call(ledger, call) for call in calls]
        stored = None if verdict == "clear" else verdict
        asyncio.run(ledger.calls.rate(call_ids, stored, None if stored is None else note))
    if cli.as_json:
        cli.print_json([{"id": show_id(call_id), "verdict": stored, "note": note} for call_id in call_ids])
    else:
        cli.notice(f"{counted(len(call_ids), 'call')}: {verdict}")
