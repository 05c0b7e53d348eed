"""The status of every cap: what is spent and reserved under it, and what it would refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from promptkit.routing.budgets import Budgets, Per, Period, Tag, counted
from promptkit.types import Scope

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import BudgetRecord

_NO_JOB = "job"
"""The scope key of the configured caps per job, under which no money is counted."""


@dataclass(frozen=True, slots=True)
class CapStatus:
    """A cap and the money under it, in pico-USD.

    `scope` is None for the configured caps per job, because each job has its own account. `job` is
    the name of an open job. `resets` is when the spent money starts from 0 again (UTC); a job's
    never does. `over_pico` is the amount above the cap, after the cap was lowered or a provider
    billed more than the max cost; the scope is then `stopped`.
    """

    per: Per
    tag: Tag | None
    cap_pico: int | None
    soft_pico: int | None
    scope: str | None = None
    job: str | None = None
    spent_pico: int = 0
    reserved_pico: int = 0
    over_pico: int = 0
    stopped: bool = False
    resets: datetime | None = None

    @property
    def left_pico(self) -> int | None:
        """The highest max cost of a call that can start at once; None without a cap."""
        if self.cap_pico is None:
            return None
        return 0 if self.stopped else max(0, self.cap_pico - self.spent_pico - self.reserved_pico)

    @property
    def refuses_above_pico(self) -> int | None:
        """The max cost above which a call is refused, even when nothing is reserved; None without a cap."""
        if self.cap_pico is None:
            return None
        return 0 if self.stopped else max(0, self.cap_pico - self.spent_pico)

    @property
    def soft_passed(self) -> bool:
        """Whether the soft cap is reached."""
        return self.soft_pico is not None and self.spent_pico >= self.soft_pico


def cap_statuses(budgets: Budgets, period: Period, ledger: Ledger | None) -> list[CapStatus]:
    """Return the status of every cap: per day and month, for all calls and by tag, and those of jobs.

    Args:
        budgets: the configured caps.
        period: the current budget day and month.
        ledger: the ledger; None before the first call.
    """
    records = {} if ledger is None else {record.scope: record for record in ledger.reports.budgets()}
    statuses = [*_configured(budgets, period, records)]
    if ledger is not None:
        statuses += _open_jobs(ledger, budgets, records)
    return statuses


def _configured(budgets: Budgets, period: Period, records: Mapping[str, BudgetRecord]) -> Iterator[CapStatus]:
    ends = {Per.DAY: period.ends, Per.MONTH: period.month_ends}
    all_calls = Budgets(budgets.job, budgets.day, budgets.month)
    by_tag = (Budgets(tags={tag: caps}) for tag, caps in budgets.tags.items())
    for part in (all_calls, *by_tag):
        for cap in counted(part, dict(part.tags.keys()), period, _NO_JOB):
            if cap.per is Per.JOB:
                yield CapStatus(cap.per, cap.tag, cap.scope.cap_pico, cap.scope.soft_pico)
            else:
                record = records.get(cap.scope.key)
                yield _status(cap.per, cap.tag, cap.scope, record, resets=ends[cap.per])


def _open_jobs(ledger: Ledger, budgets: Budgets, records: Mapping[str, BudgetRecord]) -> Iterator[CapStatus]:
    from promptkit.ledger.records import JobState

    jobs = {job.id: job.name for job in ledger.jobs.newest() if job.state is JobState.OPEN}
    soft_caps = {None: budgets.job.soft_pico}
    soft_caps |= {tag: caps.job.soft_pico for tag, caps in budgets.tags.items()}
    for job_id, name in jobs.items():
        for key, record in records.items():
            if key == f"job:{job_id}" or key.startswith(f"job:{job_id} "):
                tag = _tag_of(key)
                # The cap of the job's last run, because --budget is not in the configuration.
                scope = Scope(key, record.cap_pico, soft_caps.get(tag))
                yield _status(Per.JOB, tag, scope, record, job=name)


def _tag_of(key: str) -> Tag | None:
    _, space, tag = key.partition(" ")
    name, _, value = tag.partition("=")
    return (name, value) if space else None


def _status(
    per: Per,
    tag: Tag | None,
    scope: Scope,
    record: BudgetRecord | None,
    *,
    resets: datetime | None = None,
    job: str | None = None,
) -> CapStatus:
    """Return a scope's account under its current cap, which may have changed since it was last used."""
    if record is None:
        return CapStatus(per, tag, scope.cap_pico, scope.soft_pico, scope.key, job, resets=resets)
    used_pico = record.spent_pico + record.reserved_pico
    return CapStatus(
        per=per,
        tag=tag,
        cap_pico=scope.cap_pico,
        soft_pico=scope.soft_pico,
        scope=scope.key,
        job=job,
        spent_pico=record.spent_pico,
        reserved_pico=record.reserved_pico,
        over_pico=0 if scope.cap_pico is None else max(0, used_pico - scope.cap_pico),
        stopped=record.stops_at(scope.cap_pico),
        resets=resets,
    )
