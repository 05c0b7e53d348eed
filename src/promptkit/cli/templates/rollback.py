"""`promptkit templates rollback`."""

from __future__ import annotations

from promptkit.authoring.labels import rollback as move_label_back
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.views.labels import print_move, publisher_of, sign


def rollback(
    cli: Cli, name: options.TemplateName, label: options.Label, reason: options.Reason = None
) -> None:
    """Move a label back to its previous version; a second rollback goes further back.

    Examples:
        promptkit templates rollback ugc/script production --reason "clients complain"
    """
    session = cli.session()
    print_move(cli, move_label_back(publisher_of(session), name, label, sign(session, reason)))
