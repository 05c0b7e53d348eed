"""`promptkit templates promote`."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from promptkit.authoring.labels import promote as move_label
from promptkit.authoring.prompt_tests import prompt_test_problems
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.views.labels import print_move, publisher_of, sign

Version = Annotated[str, Argument(metavar="REF", help="The version: ugc/script@2, or another of its labels.")]
Force = Annotated[bool, Option("--force", help="Move the label although tests fail; needs --reason.")]


def promote(
    cli: Cli, ref: Version, label: options.Label, force: Force = False, reason: options.Reason = None
) -> None:
    """Move a label to a published version.

    A name without a version means its `production` version. It is refused if a prompt test fails.
    --force with a --reason moves the label anyway, and records both.

    Examples:
        promptkit templates promote ugc/script@2 production --reason "retention +4 %"
        promptkit templates promote ugc/script@staging production
    """
    session = cli.session()
    moved = move_label(
        publisher_of(session), ref, label, sign(session, reason), check=prompt_test_problems, force=force
    )
    for problem in moved.overridden:
        cli.notice(f"moved in spite of: {problem}")
    print_move(cli, moved)
