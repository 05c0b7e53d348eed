"""`jobs watch`: how a job gets on that another process runs."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

from promptkit.batch.job import job_named
from promptkit.batch.options import pinned_route
from promptkit.ledger.records import JobRecord, JobSummary, RowState

from .face import Face
from .job_page import Standing, job_json, rows_text, standing_of
from .jobs import Name
from .lanes import Weather
from .money import spent
from .pace import Pace
from .progress import following

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.ledger.ledger import Ledger


_LOOK_S: Final = 0.5


_SHARE: Final = 20
"""A look that takes long (a million rows are counted) is taken that much more seldom."""


def watch(face: Face, name: Name) -> int:
    """Show how a job gets on that another process runs, until it ends.

    Rows, rate, time left, cost against the cap, and providers that are closed; as a bar on a
    terminal, as lines now and then elsewhere. Ctrl-C ends the watching; the job goes on.

    Examples:
        promptkit jobs watch night-2026-11-21
        promptkit jobs watch "night-{date}" --quiet --json
    """
    session = face.session()
    with face.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
        try:
            _follow(face, session.settings, ledger, job)
        except KeyboardInterrupt:
            face.say(f"job {job.name} goes on")
            return 128 + signal.SIGINT
        ended = ledger.jobs.get(job.name) or job
        summary, standing = ledger.jobs.summaries([ended])[0], standing_of(ledger, ended)
    if face.as_json:
        face.print_json(job_json(summary, standing))
    else:
        face.say(f"job {job.name} is {_word(standing)}: {rows_text(summary)}; {spent(summary.money)}")
    return 0


def _follow(face: Face, settings: Settings, ledger: Ledger, job: JobRecord) -> None:
    """Show it until no process runs it any more."""
    first = ledger.jobs.summaries([job])[0]
    account = ledger.reports.budget(f"job:{job.id}")
    cap_pico = None if account is None else account.cap_pico
    done = first.total - first.pending
    pace = Pace(first.total, done, first.pending, first.money.known_pico, cap_pico=cap_pico)
    weather = Weather(settings, pinned_route(job).targets, ledger.shared.circuits)
    lines: list[str] = []
    with following(face, pace, lambda: lines) as shown:
        wait_s = _LOOK_S
        while ledger.jobs.runner(job) is not None:
            time.sleep(wait_s)
            began = time.monotonic()
            _take(pace, first, ledger.jobs.summaries([job])[0])
            lines[:] = weather.lines()
            shown.tick()
            wait_s = max(_LOOK_S, _SHARE * (time.monotonic() - began))


def _take(pace: Pace, first: JobSummary, now: JobSummary) -> None:
    degraded, before = now.rows.get(RowState.DEGRADED, 0), first.rows.get(RowState.DEGRADED, 0)
    pace.take(
        made=first.pending - now.pending,
        failed=(now.failed - degraded) - (first.failed - before),
        degraded=degraded - before,
        pico=now.money.known_pico,
        unknown=now.money.unknown - first.money.unknown,
    )


def _word(standing: Standing) -> str:
    return "open, and no process runs it" if standing is Standing.OPEN else standing.value
