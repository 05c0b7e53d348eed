"""One job: in a list, and in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from promptkit.batch.options import RETRIED_STATES
from promptkit.cli.output import (
    Page,
    Table,
    duration,
    iso,
    listed,
    local_time,
    money_json,
    plain,
    short_time,
    shortened,
    spent,
    to_json,
    usd_text,
)
from promptkit.errors import counted
from promptkit.ledger.records import JobRecord, JobState, JobSummary, RowState
from promptkit.types import Json, dollars

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import RowProblem, TargetShare

_REASON_LENGTH = 160
"""Characters of a reason on a page; the output's `error` and `log` contain all of it."""


class State(StrEnum):
    """The state of a job. `stopping`: it is cancelled, and its last calls are in flight."""

    RUNNING = "running"
    STOPPING = "stopping"
    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


def state_of(ledger: Ledger, job: JobRecord) -> State:
    """Return the state of a job; the job of a process that was killed is open."""
    runs = ledger.jobs.runner(job) is not None
    if job.state is JobState.CANCELLED:
        return State.STOPPING if runs else State.CANCELLED
    return State.RUNNING if runs else State(job.state.value)


def input_file(job: JobRecord) -> str | None:
    """Return the file that a job's rows came from, if it still exists."""
    path = job.input_path
    return path if path is not None and Path(path).is_file() else None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job in full, without its texts. `runner` is the process that runs it."""

    summary: JobSummary
    state: State
    runner: int | None
    shares: tuple[TargetShare, ...]
    reasons: tuple[tuple[RowState, str | None, int], ...]
    problems: tuple[RowProblem, ...]
    cap_pico: int | None
    canary: Mapping[RowState, int]
    redo_of: str | None
    redos: tuple[str, ...]

    @property
    def job(self) -> JobRecord:
        """The job itself."""
        return self.summary.job


def read_job(ledger: Ledger, job: JobRecord) -> JobView:
    """Read everything about a job from the ledger, except its texts."""
    account = ledger.reports.budget(f"job:{job.id}")
    return JobView(
        summary=ledger.jobs.summaries([job])[0],
        state=state_of(ledger, job),
        runner=ledger.jobs.runner(job),
        shares=ledger.jobs.target_shares(job.id),
        reasons=ledger.jobs.failure_reasons(job.id),
        problems=ledger.jobs.problems(job.id),
        cap_pico=None if account is None else account.cap_pico,
        canary=ledger.jobs.canary_counts(job.id),
        redo_of=None if job.redo_of_id is None else ledger.jobs.name(job.redo_of_id),
        redos=ledger.jobs.redos(job.id),
    )


# -------------------------------------------------------------------------------------- text


def job_page(view: JobView, zone: ZoneInfo) -> Page:
    """Return a job as a page."""
    blocks: list[str | Table] = []
    if view.shares:
        shares = [
            (str(share.target), f"{share.money.attempts:,}", f"{share.replied:,}", spent(share.money))
            for share in view.shares
        ]
        blocks.append(Table(("~target", ">requests", ">replies", ">cost"), shares))
    if view.reasons:
        reasons = [
            (f"{count:,}", state.value, shortened(why or "", _REASON_LENGTH))
            for state, why, count in view.reasons
        ]
        numbers = ", ".join(f"{row.number:,}" for row in view.problems)
        more = view.summary.failed - len(view.problems)
        blocks.append(Table((">rows", "status", "~why"), reasons))
        blocks.append(f"rows {numbers}{f' and {more:,} more' if more > 0 else ''}")
    return Page(dict(_facts(view, zone)), blocks, list(next_steps(view)))


def _facts(view: JobView, zone: ZoneInfo) -> Iterator[tuple[str, str | None]]:
    job, summary, money = view.job, view.summary, view.summary.money
    yield "job", job.name
    yield "state", view.state.value + (f" (process {view.runner})" if view.runner else "")
    yield "template", f"{job.template_ref} ({job.template_digest[:19]})"
    yield "route", _route_text(job)
    yield "redo of", view.redo_of
    yield "redone by", ", ".join(view.redos)
    yield "rows", rows_text(summary.rows)
    yield "canary", listed(f"{count:,} {state}" for state, count in view.canary.items())
    cap = "" if view.cap_pico is None else f" of {dollars(view.cap_pico)}"
    yield "cost", f"{spent(money)}{cap}; {counted(money.attempts, 'request')}"
    if money.unknown:
        yield "unknown", f"{counted(money.unknown, 'request')} without a known cost, charged at max cost"
    yield "input", job.input_path or "none"
    yield "output", job.output_path or "stdout"
    yield "started", local_time(job.created_us, zone)
    if job.ended_us is not None:
        took = duration((job.ended_us - job.created_us) / 1e6)
        yield "ended", f"{local_time(job.ended_us, zone)}, after {took}"


def rows_text(rows: Mapping[RowState, int]) -> str:
    """Return the rows by state: `10 rows: 8 ok, 1 failed, 1 pending`."""
    states = [*(state for state in RowState if state is not RowState.PENDING), RowState.PENDING]
    counts = listed(f"{rows[state]:,} {state}" for state in states if rows.get(state))
    return f"{counted(sum(rows.values()), 'row')}: {counts}" if counts else "no rows"


def _route_text(job: JobRecord) -> str:
    route = cast("Mapping[str, Any]", job.options.get("route") or {})
    targets = " > ".join(cast("list[str]", route.get("targets") or []))
    return f"{job.route}: {targets}" if targets and targets != job.route else job.route


def next_steps(view: JobView) -> Iterator[str]:
    """Yield what a user can do about the job now, as commands."""
    name, rows = view.job.name, view.summary.rows
    if view.state is State.RUNNING:
        yield f"promptkit jobs watch {name}"
        yield f"promptkit jobs cancel {name}"
        return
    if view.summary.pending and view.state is not State.STOPPING:
        yield f"promptkit jobs resume {name}   sends {counted(view.summary.pending, 'pending row')}"
    failed = sum(rows.get(state, 0) for state in RETRIED_STATES)
    if failed:
        yield f"promptkit log --job {name}   shows why, call by call"
        yield f"promptkit jobs resume {name} --retry-failed   sends {counted(failed, 'failed row')} again"
    if rows.get(RowState.INVALID):
        yield "correct the invalid rows in the input, then run its batch command again"
    if view.summary.done:
        yield f"promptkit jobs export {name} -o FILE   writes the output again"


# -------------------------------------------------------------------------------------- list

JOB_COLUMNS = (
    "~job", "~template", "state", ">rows", ">done", ">failed", ">pending", ">cost", "started", "ended",
)  # fmt: skip


def job_row(summary: JobSummary, state: State, zone: ZoneInfo) -> tuple[str, ...]:
    """Return the row of `JOB_COLUMNS`."""
    job = summary.job
    numbers = (summary.total, summary.done, summary.failed, summary.pending)
    return (
        job.name,
        job.template_ref,
        state.value,
        *(f"{number:,}" for number in numbers),
        spent(summary.money),
        short_time(job.created_us, zone),
        "" if job.ended_us is None else short_time(job.ended_us, zone),
    )


# -------------------------------------------------------------------------------------- JSON


def summary_json(summary: JobSummary, state: State) -> dict[str, Json]:
    """Return a job of a list as JSON."""
    job = summary.job
    return {
        "job": job.name,
        "state": state.value,
        "template": job.template_ref,
        "template_digest": job.template_digest,
        "route": job.route,
        "total": summary.total,
        "rows": {row_state.value: summary.rows.get(row_state, 0) for row_state in RowState},
        **money_json(summary.money),
        "input": job.input_path,
        "output": job.output_path,
        "started": iso(job.created_us),
        "ended": iso(job.ended_us),
    }


def job_json(view: JobView) -> dict[str, Json]:
    """Return a job in full as JSON."""
    return {
        **summary_json(view.summary, view.state),
        "process": view.runner,
        "budget_usd": usd_text(view.cap_pico),
        "targets": [
            {"target": str(share.target), "answered": share.replied, **money_json(share.money)}
            for share in view.shares
        ],
        "reasons": [
            {"status": state.value, "error": why, "rows": count} for state, why, count in view.reasons
        ],
        "problems": [
            to_json(row, ("number", "state", "why"), row=row.number, status=row.state.value, error=row.why)
            for row in view.problems
        ],
        "canary": plain({state.value: count for state, count in view.canary.items()}),
        "redo_of": view.redo_of,
        "redone_by": list(view.redos),
        "next": list(next_steps(view)),
    }
