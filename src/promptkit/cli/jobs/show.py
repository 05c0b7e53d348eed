"""`promptkit jobs show`."""

from __future__ import annotations

from promptkit.batch.job import job_named
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.views.job import job_json, job_page, read_job


def show_job(cli: Cli, name: options.Job) -> None:
    """Show one job in full.

    It shows the rows by state, the reasons of failures, the cost, and the next step.

    Examples:
        promptkit jobs show night-2026-11-21
        promptkit jobs show "night-{date}" --json
    """
    session = cli.session()
    with cli.ledger(session.settings) as ledger:
        view = read_job(ledger, job_named(ledger, name, session.today()))
    if cli.as_json:
        cli.print_json(job_json(view))
    else:
        cli.print_page(job_page(view, session.settings.timezone))
