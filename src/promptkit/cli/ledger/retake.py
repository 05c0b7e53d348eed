"""`promptkit retake`."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.views.call import find_call
from promptkit.cli.views.reply import reply_json, reply_summary
from promptkit.errors import ExitCode
from promptkit.types import Status
from promptkit.types.ids import show_id

Note = Annotated[str, Option("--note", metavar="TEXT", help="The client's note; @FILE reads it from a file.")]
Template = Annotated[str, Option("--template", metavar="REF", help="A template that declares text and note.")]
Tags = Annotated[
    list[str] | None, Option("--tag", metavar="K=V", help="A tag besides those of the call. Repeatable.")
]


def retake(
    cli: Cli,
    call: options.Call,
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

    The retake is a call of its own, a child of the first one. It uses the variables, tags,
    deliverable and route of that call, unless you give others. Its cost counts for the deliverable.

    Examples:
        promptkit retake 38g0qj26 --note "More dynamic, and we don't see enough of the bar"
        promptkit retake 38g0qj26 --note @mail.txt -v filmed:=true --tag round=2
        promptkit retake 38g0qj26 --note "Shorter" --template my/retake --target openai/gpt-6-luna
    """
    from promptkit import PromptKit

    settings = cli.settings()
    with cli.ledger(settings) as ledger:
        call_id = find_call(ledger, call)
    with PromptKit(settings) as kit:
        reply = kit.retake(
            call_id,
            values.read_text(note),
            template=template,
            variables=values.read_variables(var, vars_),
            route=route,
            targets=target,
            tags=values.read_tags(tag),
            budget_usd=values.read_budget(budget),
        )
    if cli.as_json:
        cli.print_json({**reply_json(reply), "parent": show_id(call_id)})
    else:
        cli.print(reply.text)
        cli.notice(f"{reply_summary(reply)}, after {show_id(call_id)}")
    return ExitCode.SOME_FAILED if reply.status is Status.DEGRADED else ExitCode.OK
