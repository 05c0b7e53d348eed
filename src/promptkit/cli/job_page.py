"""One job as it is told to people and to programs: in a list, and on a page of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast
from zoneinfo import ZoneInfo

from promptkit.batch.columns import usd_text
from promptkit.batch.options import RETRIED_STATES
from promptkit.errors import counted
from promptkit.ledger.records import JobRecord, JobState, JobSummary, Money, RowProblem, RowState, TargetShare
from promptkit.types import Json, dollars
from promptkit.types.ids import show_id

from .face import Face
from .money import spent
from .times import iso, lasting, shortly, when

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


LIST: Final = (
    "~job",
    "~template",
    "state",
    ">rows",
    ">done",
    ">failed",
    ">waiting",
    ">cost",
    "started",
    "ended",
)


_REASON: Final = 160
"""Characters of a reason that a page shows; the rest stands in the output's `error` and in `log`."""


class Standing(StrEnum):
    """Where a job stands, as people see it. `stopping`: it is cancelled, its last calls are out."""

    RUNNING = "running"
    STOPPING = "stopping"
    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


def standing_of(ledger: Ledger, job: JobRecord) -> Standing:
    """Where a job stands: a process that was killed leaves it open, and nobody runs it."""
    runs = ledger.jobs.runner(job) is not None
    if job.state is JobState.CANCELLED:
        return Standing.STOPPING if runs else Standing.CANCELLED
    return Standing.RUNNING if runs else Standing(job.state.value)


@dataclass(frozen=True, slots=True)
class JobPage:
    """A job in full. `runner` is the process that runs it; `redo_of` a job's name."""

    summary: JobSummary
    standing: Standing
    runner: int | None
    shares: tuple[TargetShare, ...]
    reasons: tuple[tuple[RowState, str | None, int], ...]
    troubles: tuple[RowProblem, ...]
    cap_pico: int | None
    canary: Mapping[RowState, int]
    redo_of: str | None
    redos: tuple[str, ...]

    @property
    def job(self) -> JobRecord:
        """The job itself."""
        return self.summary.job


def read_page(ledger: Ledger, job: JobRecord) -> JobPage:
    """All that the ledger has of a job, but its texts."""
    account = ledger.reports.budget(f"job:{job.id}")
    return JobPage(
        summary=ledger.jobs.summaries([job])[0],
        standing=standing_of(ledger, job),
        runner=ledger.jobs.runner(job),
        shares=ledger.jobs.target_shares(job.id),
        reasons=ledger.jobs.failure_reasons(job.id),
        troubles=ledger.jobs.problems(job.id),
        cap_pico=None if account is None else account.cap_pico,
        canary=ledger.jobs.canary_counts(job.id),
        redo_of=None if job.redo_of_id is None else ledger.jobs.name(job.redo_of_id),
        redos=ledger.jobs.redos(job.id),
    )


# ------------------------------------------------------------------------------- a line
def list_row(summary: JobSummary, standing: Standing, zone: ZoneInfo) -> tuple[str, ...]:
    """For `jobs list`."""
    job = summary.job
    numbers = (summary.total, summary.done, summary.failed, summary.pending)
    return (
        job.name,
        job.template_ref,
        standing.value,
        *(f"{number:,}" for number in numbers),
        spent(summary.money),
        shortly(job.created_us, zone),
        "" if job.ended_us is None else shortly(job.ended_us, zone),
    )


def job_json(summary: JobSummary, standing: Standing) -> dict[str, Json]:
    """For programs."""
    job = summary.job
    rows: dict[str, Json] = {state.value: summary.rows.get(state, 0) for state in RowState}
    return {
        "job": job.name,
        "state": standing.value,
        "template": job.template_ref,
        "template_digest": job.template_digest,
        "route": job.route,
        "total": summary.total,
        "rows": rows,
        **_money_json(summary.money),
        "input": job.input_path,
        "output": job.output_path,
        "started": iso(job.created_us),
        "ended": iso(job.ended_us),
    }


def _money_json(money: Money) -> dict[str, Json]:
    return {
        "cost_usd": usd_text(money.known_pico),
        "charged_usd": usd_text(money.charged_pico),
        "attempts": money.attempts,
        "unknown_attempts": money.unknown,
    }


# ------------------------------------------------------------------------------- a page
def page_json(page: JobPage) -> dict[str, Json]:
    """For programs."""
    return {
        **job_json(page.summary, page.standing),
        "process": page.runner,
        "budget_usd": usd_text(page.cap_pico),
        "targets": [
            {"target": str(share.target), "answered": share.answered, **_money_json(share.money)}
            for share in page.shares
        ],
        "reasons": [
            {"status": state.value, "error": why, "rows": count} for state, why, count in page.reasons
        ],
        "troubles": [
            {
                "row": row.number,
                "line": row.line,
                "key": row.key,
                "status": row.state.value,
                "error": row.why,
                "call": None if row.call_id is None else show_id(row.call_id),
            }
            for row in page.troubles
        ],
        "canary": cast("Json", {state.value: count for state, count in page.canary.items()}),
        "redo_of": page.redo_of,
        "redone_by": list(page.redos),
        "next": cast("Json", list(next_steps(page))),
    }


def print_page(face: Face, page: JobPage, zone: ZoneInfo) -> None:
    """For people."""
    facts = [*_facts(page, zone)]
    width = max(len(name) for name, _ in facts)
    face.print("\n".join(f"{name.ljust(width)}  {value}" for name, value in facts))
    if page.shares:
        face.print("")
        face.table(
            ("~target", ">requests", ">answered", ">cost"),
            [
                (str(one.target), f"{one.money.attempts:,}", f"{one.answered:,}", spent(one.money))
                for one in page.shares
            ],
        )
    if page.reasons:
        face.print("")
        face.table(
            (">rows", "status", "~why"),
            [(f"{count:,}", state.value, _short(why)) for state, why, count in page.reasons],
        )
        rows = ", ".join(f"{row.number:,}" for row in page.troubles)
        more = page.summary.failed - len(page.troubles)
        face.print(f"rows {rows}{f' and {more:,} more' if more > 0 else ''}")
    steps = list(next_steps(page))
    if steps:
        face.print("\n" + "\n".join(f"next: {step}" for step in steps))


def _facts(page: JobPage, zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    job, summary = page.job, page.summary
    state = page.standing.value + (f" (process {page.runner})" if page.runner else "")
    yield "job", job.name
    yield "state", state
    yield "template", f"{job.template_ref} ({job.template_digest[:19]})"
    yield "route", _route_text(job)
    if page.redo_of is not None:
        yield "redo of", page.redo_of
    if page.redos:
        yield "redone by", ", ".join(page.redos)
    yield "rows", rows_text(summary)
    if page.canary:
        yield "canary", ", ".join(f"{count:,} {state}" for state, count in page.canary.items())
    cap = "" if page.cap_pico is None else f" of {dollars(page.cap_pico)}"
    yield "cost", f"{spent(summary.money)}{cap}; {counted(summary.money.attempts, 'request')}"
    if summary.money.unknown:
        yield (
            "unknown",
            f"{counted(summary.money.unknown, 'request')} sent and never priced, counted at their ceilings",
        )
    yield "input", job.input_path or "none"
    yield "output", job.output_path or "stdout"
    yield "started", when(job.created_us, zone)
    if job.ended_us is not None:
        yield "ended", f"{when(job.ended_us, zone)}, {lasting((job.ended_us - job.created_us) / 1e6)} later"


def rows_text(summary: JobSummary) -> str:
    """`10 rows: 8 ok, 1 failed, 1 waiting`."""
    told = [
        f"{summary.rows[state]:,} {'waiting' if state is RowState.PENDING else state.value}"
        for state in (*(state for state in RowState if state is not RowState.PENDING), RowState.PENDING)
        if summary.rows.get(state)
    ]
    return f"{counted(summary.total, 'row')}: {', '.join(told)}" if told else "no rows"


def _route_text(job: JobRecord) -> str:
    told = cast("Mapping[str, Any]", job.options.get("route") or {})
    targets = " > ".join(cast("list[str]", told.get("targets") or []))
    return f"{job.route}: {targets}" if targets and targets != job.route else job.route


def _short(why: str | None) -> str:
    text = " ".join((why or "").split())
    return text if len(text) <= _REASON else f"{text[: _REASON - 1]}…"


def next_steps(page: JobPage) -> Iterator[str]:
    """What somebody can do about the job now, as commands."""
    name, rows = page.job.name, page.summary.rows
    if page.standing is Standing.RUNNING:
        yield f"promptkit jobs watch {name}"
        yield f"promptkit jobs cancel {name}"
        return
    if page.summary.pending and page.standing is not Standing.STOPPING:
        yield f"promptkit jobs resume {name}   does the {counted(page.summary.pending, 'waiting row')}"
    again = sum(rows.get(state, 0) for state in RETRIED_STATES)
    if again:
        yield f"promptkit log --job {name}   tells why, call by call"
        yield f"promptkit jobs resume {name} --retry-failed   does {counted(again, 'row')} again"
    if rows.get(RowState.INVALID):
        yield "correct the invalid rows in the input, then run its batch command again"
    if page.summary.done:
        yield f"promptkit jobs export {name} -o FILE   writes the output again"
