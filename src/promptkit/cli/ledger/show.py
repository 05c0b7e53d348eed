"""`promptkit show`."""

from __future__ import annotations

from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.views.call import call_json, call_page, find_call, read_call


def show(cli: Cli, id_: options.Call) -> None:
    """Show one call in full.

    The prompt is rendered again from the source and the variables in the ledger. Its digest is
    compared with the digest of the prompt that was sent.

    Examples:
        promptkit show 38g0qj26ewp2c
        promptkit show 38g0qj26 --json
    """
    settings = cli.settings()
    with cli.ledger(settings) as ledger:
        view = read_call(ledger, find_call(ledger, id_))
    if cli.as_json:
        cli.print_json(call_json(view))
    else:
        cli.print_page(call_page(view, settings.timezone))
