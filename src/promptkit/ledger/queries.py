"""What the faces ask: pages of calls and rows, sums of money, single things in full.

Each question is a short read transaction of its own; long lists are paged by key, so that no
transaction stays open over an export (it would keep the WAL file from being reset).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, func, select

from promptkit.batch.past import Seen
from promptkit.batch.shares import Share
from promptkit.routing.reply_cache import CachedReply
from promptkit.templates import StoredSource
from promptkit.types import Json, Status, Target

from . import lately, search, served
from . import tables as t
from .answers import (
    AttemptRecord,
    BudgetRecord,
    CallRecord,
    ChildCall,
    LogFilter,
    LoggedCall,
    Money,
    PackItem,
)
from .encoding import read_object
from .erasing import Erasable, Erase, erasable
from .filters import conditions
from .jobs import parents
from .reading import (
    attempt_record,
    budget_record,
    call_record,
    logged_call,
    maybe,
)
from .row_pages import RowPages, attempts_of
from .sums import Sums
from .tallies import SumOf

_OF_CALLS: Final = attempts_of(t.CALLS.c.id)


class Queries(RowPages):
    """The questions. Synchronous: each takes from well under a millisecond to some for a page."""

    # ------------------------------------------------------------------ money

    def job_money(self, job_id: int) -> Money:
        """What a job cost, over all its calls and attempts."""
        return self._money(t.CALLS.c.job_id == job_id)

    def spent_total(self, since_us: int | None = None) -> Money:
        """What all attempts cost, or those that started since then."""
        return self._money(*([] if since_us is None else [t.ATTEMPTS.c.started_us >= since_us]))

    def _money(self, *conditions: ColumnElement[bool]) -> Money:
        attempt = t.ATTEMPTS.c
        query = select(
            func.sum(attempt.cost_pico),
            func.sum(attempt.charged_pico),
            func.count() - func.count(attempt.cost_pico),
            func.count(),
        ).select_from(t.ATTEMPTS.join(t.CALLS, t.CALLS.c.id == attempt.call_id))
        with self._read() as connection:
            known, charged, unknown, count = connection.execute(query.where(*conditions)).one()
        return Money(int(known or 0), int(charged or 0), unknown, count)

    @contextmanager
    def sums(self, what: SumOf) -> Generator[Sums, None, None]:
        """The questions of a report, over one state of the books."""
        with self._read() as connection:
            yield Sums(connection, what)

    def budgets(self) -> tuple[BudgetRecord, ...]:
        """All scopes, the one last written first."""
        with self._read() as connection:
            rows = connection.execute(
                select(t.BUDGETS).order_by(t.BUDGETS.c.updated_us.desc(), t.BUDGETS.c.scope)
            ).mappings()
            return tuple(budget_record(row) for row in rows)

    def spent(self, scope: str) -> BudgetRecord | None:
        """One scope."""
        with self._read() as connection:
            row = connection.execute(select(t.BUDGETS).where(t.BUDGETS.c.scope == scope)).mappings().first()
        return None if row is None else budget_record(row)

    def foreign_owners(self, owner_id: int) -> tuple[int, ...]:
        """Other processes that have attempts open, or died with them."""
        query = select(t.HOLDS.c.owner_id).where(t.HOLDS.c.owner_id != owner_id).distinct()
        with self._read() as connection:
            return tuple(connection.execute(query).scalars())

    # ----------------------------------------------------------------- lately

    def recent_latencies(self, since_us: int) -> Mapping[Target, float]:
        """Seconds that each target's latest answers took, as a mean; unknown ones are left out."""
        with self._read() as connection:
            return lately.latencies(connection, since_us)

    def cached_replies(self, key: int, prompt_digest: str, since_us: int) -> tuple[CachedReply, ...]:
        """Replies that may serve a call again: whole, not rejected, kept; the newest first."""
        with self._read() as connection:
            return served.replies(connection, key, prompt_digest, since_us)

    def recent_output_tokens(self, template_digest: str) -> Mapping[Target | None, float]:
        """How long a skeleton's latest answers were, as a mean by target; under None over all."""
        with self._read() as connection:
            return lately.output_tokens(connection, template_digest)

    def seen_of(self, template_digest: str) -> tuple[Seen, ...]:
        """The latest attempts with a version of a skeleton."""
        with self._read() as connection:
            return tuple(lately.of_skeleton(connection, template_digest))

    def seen_of_other_versions(self, name: str) -> tuple[Seen, ...]:
        """The latest attempts with any version of a skeleton."""
        with self._read() as connection:
            return tuple(lately.of_other_versions(connection, name))

    def variables_of(self, calls: Sequence[int]) -> Mapping[int, Mapping[str, Json]]:
        """What calls were rendered from, by their ids; at most some hundreds. What isn't kept is left out."""
        with self._read() as connection:
            return lately.variables(connection, calls)

    # ------------------------------------------------------------ log and show

    def calls(self, limit: int = 20, where: LogFilter | None = None) -> tuple[LoggedCall, ...]:
        """The newest calls that fit the filter, newest first."""
        where = where or LogFilter()
        match = None if where.text is None else search.match_of(where.text)
        if match is not None:
            try:
                return self._searched(limit, replace(where, text=None), match)
            except (sqlite3.OperationalError, OSError):
                pass  # no index to be had: every text is read
            except sqlite3.DatabaseError:
                search.drop(self._path)  # damaged: the next search makes it anew
        return self._listed(limit, where)

    def _searched(self, limit: int, where: LogFilter, match: str) -> tuple[LoggedCall, ...]:
        found: list[LoggedCall] = []
        with search.opened(self._path) as index:
            with self._read() as connection:
                index.bring_up(connection)
            for page in index.found(match):
                found += self._listed(limit - len(found), where, page)
                if len(found) == limit:
                    break
        return tuple(found)

    def _listed(
        self, limit: int, where: LogFilter, among: Sequence[int] | None = None
    ) -> tuple[LoggedCall, ...]:
        call = t.CALLS.c
        narrowed = [] if among is None else [call.id.in_(among), call.forgotten_us.is_(None)]
        query = (
            select(
                call.id,
                call.started_us,
                call.ended_us,
                call.template_ref,
                call.status,
                call.error,
                call.flags,
                call.verdict,
                call.cached_from_id,
                call.saved_pico,
                call.pack_id,
                call.pack_items,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
            )
            .select_from(t.CALLS)
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == call.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == call.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(*conditions(where), *narrowed)
            .order_by(call.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
            found = connection.execute(_OF_CALLS, {"ids": [row["id"] for row in rows]}).mappings()
            attempts = [attempt_record(attempt) for attempt in found]
            origins = served.targets(connection, (row["cached_from_id"] for row in rows))
        by_call: dict[int, list[AttemptRecord]] = {}
        for attempt in attempts:
            by_call.setdefault(attempt.call_id, []).append(attempt)
        return tuple(
            logged_call(row, by_call.get(row["id"], []), origins.get(row["cached_from_id"])) for row in rows
        )

    def call(self, call_id: int) -> CallRecord | None:
        """One call in full."""
        query = (
            select(
                t.CALLS,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
                t.REPLIES.c.text,
            )
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.CALLS.c.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == t.CALLS.c.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == t.CALLS.c.row_id)
            .outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.CALLS.c.id)
            .where(t.CALLS.c.id == call_id)
        )
        with self._read() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            found = connection.execute(_OF_CALLS, {"ids": [call_id]}).mappings()
            attempts = tuple(attempt_record(attempt) for attempt in found)
        return call_record(row, attempts)

    def erasable(self, what: Erase) -> Erasable:
        """How much `Ledger.erase` would erase."""
        with self._read() as connection:
            return erasable(connection, what)

    def pack_items(self, call_id: int) -> tuple[PackItem, ...]:
        """The calls of the rows that a call carried, in their order in its prompt."""
        call = t.CALLS.c
        query = (
            select(
                call.id,
                call.row_id,
                t.ROWS.c.row_key,
                call.variables,
                call.status,
                call.error,
                call.share_begin,
                call.share_end,
            )
            .join(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(call.pack_id == call_id)
            .order_by(call.id)
        )
        with self._read() as connection:
            return tuple(
                PackItem(
                    item,
                    row_id,
                    key,
                    None if variables is None else read_object(variables),
                    maybe(Status, status),
                    error,
                    Share(begin, end),
                )
                for item, row_id, key, variables, status, error, begin, end in connection.execute(query)
            )

    def children(self, call_id: int) -> tuple[ChildCall, ...]:
        """The calls that go back to this one, the first made first."""
        call = t.CALLS.c
        query = select(call.id, call.template_ref, call.status).where(call.parent_id == call_id)
        with self._read() as connection:
            return tuple(
                ChildCall(child, ref, maybe(Status, status))
                for child, ref, status in connection.execute(query.order_by(call.id))
            )

    def deliverable_of(self, call_id: int) -> str | None:
        """The deliverable of a call; None where it has none, or there is no such call."""
        with self._read() as connection:
            return parents(connection, [call_id]).get(call_id)

    def call_ids(self, low: int, high: int, limit: int = 2) -> tuple[int, ...]:
        """Ids of calls from `low` to `high`, both included: those that begin alike, as people shorten them."""
        call = t.CALLS.c
        query = select(call.id).where(call.id.between(low, high)).order_by(call.id).limit(limit)
        with self._read() as connection:
            return tuple(connection.execute(query).scalars())

    def stored_source(self, digest: str) -> StoredSource | None:
        """A template source that was used, by its digest."""
        with self._read() as connection:
            row = (
                connection.execute(select(t.TEMPLATES).where(t.TEMPLATES.c.digest == digest))
                .mappings()
                .first()
            )
        if row is None:
            return None
        includes = {name: str(value) for name, value in read_object(row["includes"]).items()}
        return StoredSource(digest=digest, ref=row["ref"], text=row["source"], includes=includes)
