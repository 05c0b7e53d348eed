"""`promptkit templates new`."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.views.labels import publisher_of

From = Annotated[
    str | None, Option("--from", metavar="REF", help="Start with the text of this template: ugc/script@1.")
]


def new(cli: Cli, name: options.TemplateName, from_: From = None) -> None:
    """Create a template: a draft that renders at once.

    The draft is created in the first folder of `templates` in promptkit.toml. With --from it starts
    with the text of another template. A shipped template under its own name is copied with its
    versions, and your copy then takes precedence. An existing draft is not changed.

    Examples:
        promptkit templates new clips/opening
        promptkit templates new ugc/script --from ugc/script@1
    """
    from promptkit.authoring.new import create_draft

    draft = create_draft(publisher_of(cli.session()), name, source=from_)
    if cli.as_json:
        cli.print_json(
            {
                "name": name,
                "file": str(draft.file),
                "from": None if draft.copied is None else str(draft.copied),
                "versions": list(draft.versions),
            }
        )
        return
    cli.print(str(draft.file))
    if draft.versions:
        cli.notice(f"copied with its versions: {', '.join(map(str, draft.versions))}")
    cli.notice(
        "edit it, then see what would be sent:\n"
        f"  promptkit render {name}@draft\n"
        "then check and publish it:\n"
        f"  promptkit templates lint {name}@draft && promptkit templates publish {name}"
    )
