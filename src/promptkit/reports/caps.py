"""How every cap stands now: what is spent and held under it, and what it would refuse."""

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


_ALL_JOBS = "job"
"""Stands as the key of what no job's money is counted under yet."""


@dataclass(frozen=True, slots=True)
class CapStanding:
    """A cap and the money under it, in pico-USD.

    `scope` is None for the caps of jobs as they are configured: each job has an account of its
    own. `job` is an open job's name. `resets` is when the money starts from 0 again (UTC); a
    job's never does. `over_pico` stands above the cap through no admission: the cap was lowered,
    or a provider billed above its ceiling, and then the scope is `stopped`.
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
        """What a call may cost at most to start at once; None where there is no cap."""
        if self.cap_pico is None:
            return None
        return 0 if self.stopped else max(0, self.cap_pico - self.spent_pico - self.reserved_pico)

    @property
    def refuses_above_pico(self) -> int | None:
        """A call that could cost more is refused, even once all that is held is free; None refuses nothing."""
        if self.cap_pico is None:
            return None
        return 0 if self.stopped else max(0, self.cap_pico - self.spent_pico)

    @property
    def soft_passed(self) -> bool:
        """Whether the soft cap is reached."""
        return self.soft_pico is not None and self.spent_pico >= self.soft_pico


def standings(budgets: Budgets, period: Period, ledger: Ledger | None) -> list[CapStanding]:
    """Every cap as it stands: those of the day and month, of all calls and by tag, and the jobs'.

    Args:
        budgets: the caps as they are configured now.
        period: the budget day and month that it is.
        ledger: what was spent; None where no call was made yet.
    """
    records = {} if ledger is None else {record.scope: record for record in ledger.reports.budgets()}
    found = [*_configured(budgets, period, records)]
    if ledger is not None:
        found += _of_open_jobs(ledger, budgets, records)
    return found


def _configured(
    budgets: Budgets, period: Period, records: Mapping[str, BudgetRecord]
) -> Iterator[CapStanding]:
    ends = {Per.DAY: period.ends, Per.MONTH: period.month_ends}
    everyone = Budgets(budgets.job, budgets.day, budgets.month)
    by_tag = (Budgets(tags={tag: caps}) for tag, caps in budgets.tags.items())
    for each in (everyone, *by_tag):
        for one in counted(each, dict(each.tags.keys()), period, _ALL_JOBS):
            scope = one.scope
            if one.per is Per.JOB:
                yield CapStanding(one.per, one.tag, scope.cap_pico, scope.soft_pico)
            else:
                yield _standing(one.per, one.tag, scope, records.get(scope.key), resets=ends[one.per])


def _of_open_jobs(
    ledger: Ledger, budgets: Budgets, records: Mapping[str, BudgetRecord]
) -> Iterator[CapStanding]:
    from promptkit.ledger.records import JobState

    jobs = {job.id: job.name for job in ledger.jobs.newest() if job.state is JobState.OPEN}
    softs = {None: budgets.job.soft_pico} | {tag: each.job.soft_pico for tag, each in budgets.tags.items()}
    for number, name in jobs.items():
        own = f"job:{number}"
        for key, record in records.items():
            if key == own or key.startswith(f"{own} "):
                tag = _tag_of(key)
                # Under the cap that it last ran with: --budget counts besides what is configured.
                scope = Scope(key, record.cap_pico, softs.get(tag))
                yield _standing(Per.JOB, tag, scope, record, job=name)


def _standing(
    per: Per,
    tag: Tag | None,
    scope: Scope,
    record: BudgetRecord | None,
    *,
    resets: datetime | None = None,
    job: str | None = None,
) -> CapStanding:
    """The account of a scope under the cap that it has now, which may have changed since it was last used."""
    if record is None:
        return CapStanding(per, tag, scope.cap_pico, scope.soft_pico, scope.key, job, resets=resets)
    taken = record.spent_pico + record.reserved_pico
    return CapStanding(
        per=per,
        tag=tag,
        cap_pico=scope.cap_pico,
        soft_pico=scope.soft_pico,
        scope=scope.key,
        job=job,
        spent_pico=record.spent_pico,
        reserved_pico=record.reserved_pico,
        over_pico=0 if scope.cap_pico is None else max(0, taken - scope.cap_pico),
        stopped=record.stops_at(scope.cap_pico),
        resets=resets,
    )


def _tag_of(key: str) -> Tag | None:
    _, space, tag = key.partition(" ")
    name, _, value = tag.partition("=")
    return (name, value) if space else None
