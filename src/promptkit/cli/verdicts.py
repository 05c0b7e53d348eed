"""What clients say of a text: `retake` makes it again after their note, `rate` keeps their verdict."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from promptkit.cli import option_texts, options
from promptkit.errors import ExitCode, UsageError, counted
from promptkit.types import Status
from promptkit.types.ids import show_id

from .call_page import find_call
from .face import Face
from .making import reply_json, summary


class Verdict(StrEnum):
    """What `log` can look for."""

    ACCEPT = "accept"
    REJECT = "reject"
    NONE = "none"


_SAID = ("accept", "reject", "clear")


Call = Annotated[
    str, typer.Argument(metavar="CALL", help="The call, as log prints it; its first characters will do.")
]


Note = Annotated[
    str,
    typer.Option("--note", metavar="TEXT", help="What the client wrote back; @FILE reads it from a file."),
]


Template = Annotated[
    str, typer.Option("--template", metavar="REF", help="A template that declares text and note.")
]


Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="K=V", help="Besides the call's own tags. Repeatable.")
]


Words = Annotated[
    list[str], typer.Argument(metavar="CALL... VERDICT", help="Calls, then accept, reject or clear.")
]


Why = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why, in a few words.")]


def retake(
    face: Face,
    call: Call,
    note: Note,
    template: Template = "ugc/retake",
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    tag: Tags = None,
    budget: options.Budget = None,
) -> int:
    """Make a text again after a client's note.

    It is a call of its own that goes back to the first one, with its variables, tags and
    deliverable, over its route; what you say here wins. So its cost counts for the deliverable.

    Examples:
        promptkit retake 38g0qj26 --note "More dynamic, and we don't see enough of the bar"
        promptkit retake 38g0qj26 --note @mail.txt -v filmed:=true --tag round=2
        promptkit retake 38g0qj26 --note "Shorter" --template my/retake --target openai/gpt-6-luna
    """
    from promptkit import PromptKit

    settings = face.settings()
    with face.ledger(settings) as ledger:
        call_id = find_call(ledger, call)
    with PromptKit(settings, say=face.say) as kit:
        reply = kit.retake(
            call_id,
            option_texts.read_text(note),
            template=template,
            variables=option_texts.read_variables(var, vars_),
            route=route,
            targets=target,
            tags=option_texts.read_tags(tag),
            budget_usd=option_texts.read_budget(budget),
        )
    if face.as_json:
        face.print_json({**reply_json(reply), "parent": show_id(call_id)})
    else:
        face.print(reply.text)
        face.say(f"{summary(reply)}, after {show_id(call_id)}")
    return ExitCode.SOME_FAILED if reply.status is Status.DEGRADED else ExitCode.OK


def rate(face: Face, words: Words, note: Why = None) -> None:
    """Say what became of replies: accept, reject, or clear to take it back.

    Examples:
        promptkit rate 38g0qj26 accept
        promptkit rate 38g0qj26 38g0qj2f reject --note "too long for the first 3 s"
        promptkit log --verdict reject --since 7d
    """
    *calls, verdict = words
    if verdict not in _SAID or not calls:
        raise UsageError(
            f"rate {' '.join(words)} doesn't end with a verdict"
            if calls
            else "rate takes calls and a verdict",
            remedy="For example promptkit rate 38g0qj26 accept (or reject, clear)",
        )
    settings = face.settings()
    with face.ledger(settings) as ledger:
        found = [find_call(ledger, call) for call in calls]
        said = None if verdict == "clear" else verdict
        asyncio.run(ledger.calls.rate(found, said, None if said is None else note))
    shown = [show_id(call_id) for call_id in found]
    if face.as_json:
        face.print_json([{"id": one, "verdict": said, "note": note} for one in shown])
    else:
        face.say(f"{counted(len(shown), 'call')}: {verdict}")
