"""`promptkit jobs watch`."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from promptkit.batch.job import job_named
from promptkit.batch.options import pinned_route
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import spent
from promptkit.cli.progress import Pace, show_progress
from promptkit.cli.views.circuits import OpenCircuits
from promptkit.cli.views.job import State, rows_text, state_of, summary_json
from promptkit.ledger.records import JobRecord, JobSummary, RowState

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.ledger.ledger import Ledger

_INTERVAL_S = 0.5

_SHARE = 20
"""A query that takes long (it counts a million rows) runs at most in a twentieth of the time."""


def watch(cli: Cli, name: options.Job) -> int:
    """Show the progress of a job in another process.

    It shows rows, rate, remaining time, cost against the cap, and providers with open circuits: as a
    bar on a terminal, as lines now and then elsewhere. Ctrl-C does not affect the job.

    Examples:
        promptkit jobs watch night-2026-11-21
        promptkit jobs watch "night-{date}" --quiet --json
    """
    session = cli.session()
    with cli.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
        try:
            _follow(cli, session.settings, ledger, job)
        except KeyboardInterrupt:
            cli.notice(f"job {job.name} continues")
            return 128 + signal.SIGINT
        ended = ledger.jobs.get(job.name) or job
        summary, state = ledger.jobs.summaries([ended])[0], state_of(ledger, ended)
    if cli.as_json:
        cli.print_json(summary_json(summary, state))
    else:
        state_text = "open, and no process runs it" if state is State.OPEN else state.value
        cli.notice(f"job {job.name} is {state_text}: {rows_text(summary.rows)}; {spent(summary.money)}")
    return 0


def _follow(cli: Cli, settings: Settings, ledger: Ledger, job: JobRecord) -> None:
    """Show progress until no process runs the job."""
    first = ledger.jobs.summaries([job])[0]
    account = ledger.reports.budget(f"job:{job.id}")
    cap_pico = None if account is None else account.cap_pico
    pace = Pace(
        first.total, first.total - first.pending, first.pending, first.money.known_pico, cap_pico=cap_pico
    )
    circuits = OpenCircuits(settings, pinned_route(job).targets, ledger.shared.circuits)
    lines: list[str] = []
    with show_progress(cli, pace, lambda: lines) as progress:
        wait_s = _INTERVAL_S
        while ledger.jobs.runner(job) is not None:
            time.sleep(wait_s)
            began_s = time.monotonic()
            _update(pace, first, ledger.jobs.summaries([job])[0])
            lines[:] = circuits.lines()
            progress.tick()
            wait_s = max(_INTERVAL_S, _SHARE * (time.monotonic() - began_s))


def _update(pace: Pace, first: JobSummary, now: JobSummary) -> None:
    """Count what the other process has done since the first look."""
    degraded, before = now.rows.get(RowState.DEGRADED, 0), first.rows.get(RowState.DEGRADED, 0)
    pace.finished = first.pending - now.pending
    pace.failed = (now.failed - degraded) - (first.failed - before)
    pace.degraded = degraded - before
    pace.pico = now.money.known_pico
    pace.unknown = now.money.unknown - first.money.unknown
