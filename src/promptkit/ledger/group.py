"""A group commit: the begins and ends of many calls in a handful of statements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from promptkit.errors import LedgerError, PromptKitError
from promptkit.ledger import statements as sql
from promptkit.ledger import tables as t
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Cost, Fault, Scope
from promptkit.types.ids import show_id

from .accounts import Account, Book
from .records import (
    Admitted,
    AttemptEnd,
    AttemptStart,
    CallEnd,
    CallStart,
    MemberEnd,
    Refused,
    RowEnd,
    Settled,
    SoftPassed,
)
from .statements import TagIds, digest_id, or_ignore, read_object, storable, to_json

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Op(Generic[T_co]):
    """An operation of a group commit; `T_co` is the type of its result."""

    __slots__ = ()


OpT = TypeVar("OpT", bound=Op[Any])


@dataclass(slots=True)
class Begin(Op[Admitted | Refused]):
    """Open an attempt under its scopes, with its call if it is the first, and the members of its pack."""

    attempt: AttemptStart
    scopes: tuple[Scope, ...]
    call: CallStart | None
    members: Sequence[CallStart] = ()


@dataclass(slots=True)
class Finish(Op[Settled]):
    """Close and settle an attempt; end its call, its row and the members of its pack."""

    attempt: AttemptEnd
    call: CallEnd | None
    row: RowEnd | None
    members: Sequence[MemberEnd] = ()


@dataclass(slots=True)
class EndCall(Op[None]):
    """End a call that has no attempt open; `start` if it never had one."""

    end: CallEnd
    row: RowEnd | None
    start: CallStart | None
    members: Sequence[MemberEnd] = ()


@dataclass(slots=True)
class Withdraw(Op[None]):
    """Close an attempt that was admitted to a cancelled caller: it was never sent."""

    attempt_id: int
    now_us: int


@dataclass(slots=True)
class Task(Op[T]):
    """Any other function, in a savepoint of its own."""

    run: Callable[[Connection], T]


_ADMITTED = Admitted()


_SETTLED = Settled()


@dataclass(frozen=True, slots=True)
class Open:
    """An attempt that this process has open, and its reservation."""

    scopes: tuple[str, ...]
    max_cost_pico: int | None
    caps: tuple[int | None, ...] = ()
    """The caps that it was admitted under, scope by scope."""
    soft: tuple[Scope, ...] = ()
    """Its scopes that have a soft cap."""


@dataclass(slots=True)
class State:
    """What a process has committed. A group changes it only after its commit."""

    owner_id: int
    now_us: Callable[[], int]
    open: dict[int, Open] = field(default_factory=dict[int, Open])
    tag_ids: TagIds = field(default_factory=TagIds)
    price_sources: dict[str, int] = field(default_factory=dict[str, int])
    releases: int = 0


@dataclass(slots=True)
class _Writes:
    """The rows that a group collects for its statements."""

    tagsets: dict[int, str] = field(default_factory=dict[int, str])
    price_sources: dict[str, int] = field(default_factory=dict[str, int])
    calls: list[sql.Row] = field(default_factory=list[sql.Row])
    attempts: list[sql.Row] = field(default_factory=list[sql.Row])
    reservations: list[sql.Row] = field(default_factory=list[sql.Row])
    attempt_ends: list[sql.Row] = field(default_factory=list[sql.Row])
    unknowns: list[sql.Row] = field(default_factory=list[sql.Row])
    released: list[sql.Row] = field(default_factory=list[sql.Row])
    call_ends: list[sql.Row] = field(default_factory=list[sql.Row])
    shares: list[sql.Row] = field(default_factory=list[sql.Row])
    replies: list[sql.Row] = field(default_factory=list[sql.Row])
    row_ends: list[sql.Row] = field(default_factory=list[sql.Row])


class Group:
    """The operations of one transaction: `run` it inside the transaction, `keep` it after the commit."""

    __slots__ = ("_book", "_connection", "_open", "_ops", "_state", "_writes")

    def __init__(self, connection: Connection, state: State, ops: Sequence[Op[Any]]) -> None:
        self._connection = connection
        self._state = state
        self._ops = ops
        self._open: dict[int, Open | None] = {}  # opened here; None: closed here
        self._book = Book({})
        self._writes = _Writes()

    def run(self) -> list[object]:
        """Carry out all operations; return one result per operation, an exception for one that failed.

        Ends go before begins, because they free room under the caps. A withdrawal goes last,
        because its attempt may begin in this very group.
        """
        results: list[object] = [None] * len(self._ops)
        self._run_each(Task, self._task, results)
        self._book = Book(load_accounts(self._connection, self._scopes()))
        self._run_each(Finish, self._finish, results)
        self._run_each(Begin, self._begin, results)
        self._run_each(EndCall, self._end_call, results)
        self._run_each(Withdraw, self._withdraw, results)
        self._write()
        return results

    def keep(self) -> int:
        """Remember what is on disk now; return how many reservations were released."""
        state, writes = self._state, self._writes
        for attempt_id, opened in self._open.items():
            if opened is None:
                state.open.pop(attempt_id, None)
            else:
                state.open[attempt_id] = opened
        state.tag_ids.remember(writes.tagsets)
        state.price_sources.update(writes.price_sources)
        state.releases += len(writes.released)
        return len(writes.released)

    def _run_each(self, kind: type[OpT], run: Callable[[OpT], object], results: list[object]) -> None:
        for index, op in enumerate(self._ops):
            if isinstance(op, kind):
                try:
                    results[index] = run(op)
                except (PromptKitError, ValueError, TypeError) as error:
                    results[index] = error

    def _task(self, op: Task[Any]) -> object:
        with self._connection.begin_nested():
            return op.run(self._connection)

    def _scopes(self) -> set[str]:
        keys: set[str] = set()
        for op in self._ops:
            if isinstance(op, Begin):
                keys.update(scope.key for scope in op.scopes)
            elif isinstance(op, Finish | Withdraw):
                opened = self._state.open.get(op.attempt.id if isinstance(op, Finish) else op.attempt_id)
                keys.update(() if opened is None else opened.scopes)
        return keys

    def _begin(self, op: Begin) -> Admitted | Refused:
        attempt, writes = op.attempt, self._writes
        calls = [] if op.call is None else [self._call_start(call) for call in (op.call, *op.members)]
        refused = self._book.admit(op.scopes, attempt.max_cost_pico or 0)
        if refused is not None:
            return replace(refused, releases=self._state.releases)
        keys = tuple(scope.key for scope in op.scopes)
        writes.calls += calls
        writes.attempts.append(sql.attempt_start(attempt))
        writes.reservations.append(
            {
                "attempt_id": attempt.id,
                "owner_id": self._state.owner_id,
                "max_cost_pico": attempt.max_cost_pico,
                "scopes": sql.scope_keys(keys),
            }
        )
        soft = tuple(scope for scope in op.scopes if scope.soft_pico is not None)
        caps = tuple(scope.cap_pico for scope in op.scopes)
        self._open[attempt.id] = Open(keys, attempt.max_cost_pico, caps, soft)
        return _ADMITTED

    def _finish(self, op: Finish) -> Settled:
        overrun, soft = self._close(op.attempt)
        if op.call is not None:
            self._call_end(op.call, op.attempt.id)
        if op.row is not None:
            self._writes.row_ends.append(sql.row_end(op.row))
        self._end_members(op.members, op.attempt.id)
        return Settled(overrun, soft) if overrun or soft else _SETTLED

    def _end_call(self, op: EndCall) -> None:
        if op.start is not None:
            self._writes.calls.append(self._call_start(op.start))
        self._call_end(op.end, None)
        if op.row is not None:
            self._writes.row_ends.append(sql.row_end(op.row))
        self._end_members(op.members, None)

    def _end_members(self, members: Sequence[MemberEnd], attempt_id: int | None) -> None:
        for call, row in members:
            self._call_end(call, attempt_id)
            if call.share is not None:
                self._writes.shares.append(
                    {"share_begin": call.share.begin, "share_end": call.share.end, "key": call.id}
                )
            if row is not None:
                self._writes.row_ends.append(sql.row_end(row))

    def _withdraw(self, op: Withdraw) -> None:
        if self._opened(op.attempt_id) is not None:
            self._close(
                AttemptEnd(
                    op.attempt_id,
                    AttemptState.FAILED,
                    charged_pico=0,
                    ended_us=op.now_us,
                    fault=Fault.TRANSIENT,
                    detail="withdrawn before it was sent",
                    cost=Cost(0, "not billed"),
                )
            )

    def _opened(self, attempt_id: int) -> Open | None:
        if attempt_id in self._open:
            return self._open[attempt_id]
        return self._state.open.get(attempt_id)

    def _close(self, end: AttemptEnd) -> tuple[tuple[str, ...], tuple[SoftPassed, ...]]:
        opened = self._opened(end.id)
        if opened is None:
            raise LedgerError(f"attempt {show_id(end.id)} is not open in this process")
        row = sql.attempt_end(end, self._price_source(end))
        overrun = self._book.settle(opened.scopes, opened.max_cost_pico, end.charged_pico, opened.caps)
        self._writes.attempt_ends.append(row)
        if end.state is AttemptState.UNKNOWN:
            self._writes.unknowns.append({"key": end.id})
        self._writes.released.append({"key": end.id})
        self._open[end.id] = None
        return overrun, self._book.soft(opened.soft) if opened.soft else ()

    def _call_start(self, call: CallStart) -> sql.Row:
        if not call.tags:
            return sql.call_start(call, None)
        number, text = self._state.tag_ids(call.tags)
        row = sql.call_start(call, number)
        if text is not None:
            self._writes.tagsets[number] = text
        return row

    def _call_end(self, end: CallEnd, attempt_id: int | None) -> None:
        self._writes.call_ends.append(sql.call_end(end))
        if end.text is not None:
            text = storable(end.text)
            self._writes.replies.append({"call_id": end.id, "attempt_id": attempt_id, "text": text})

    def _price_source(self, end: AttemptEnd) -> int | None:
        if end.cost is None:
            return None
        source = end.cost.source
        known = self._state.price_sources.get(source)
        if known is None:
            known = self._writes.price_sources[source] = digest_id(source)
        return known

    def _write(self) -> None:
        connection, writes = self._connection, self._writes
        store_price_sources(connection, writes.price_sources)
        store_tagsets(connection, writes.tagsets)
        sql.insert_calls(connection, writes.calls)
        sql.insert_attempts(connection, writes.attempts)
        sql.insert_reservations(connection, writes.reservations)
        sql.update_attempts(connection, writes.attempt_ends)
        sql.count_unknowns(connection, writes.unknowns)
        sql.delete_reservations(connection, writes.released)
        sql.update_calls(connection, writes.call_ends)
        sql.update_shares(connection, writes.shares)
        sql.insert_replies(connection, writes.replies)
        sql.update_rows(connection, writes.row_ends)
        store_accounts(connection, self._book, self._state.now_us())


def load_accounts(connection: Connection, scopes: Collection[str]) -> dict[str, Account]:
    """Return the accounts of these scopes; a scope without an account is left out."""
    # One by one: they are few, and an IN of any length costs a compilation. In order: two
    # processes on PostgreSQL can't deadlock.
    rows = {key: sql.find_account(connection, key) for key in sorted(scopes)}
    return {key: Account(*row) for key, row in rows.items() if row is not None}


def store_accounts(connection: Connection, book: Book, now_us: int) -> None:
    """Write the accounts that are new or changed."""
    new, changed = book.new().items(), book.changed().items()
    sql.insert_budgets(
        connection, [{"scope": key, **_account_columns(account, now_us)} for key, account in new]
    )
    sql.update_budgets(
        connection, [{**_account_columns(account, now_us), "key": key} for key, account in changed]
    )


def _account_columns(account: Account, now_us: int) -> sql.Row:
    return {
        "cap_pico": account.cap_pico,
        "spent_pico": account.spent_pico,
        "reserved_pico": account.reserved_pico,
        "over_pico": account.over_pico,
        "stopped_cap_pico": account.stopped_cap_pico,
        "updated_us": now_us,
    }


def store_tagsets(connection: Connection, sets: Mapping[int, str]) -> None:
    """Store sets of tags by their id, each as canonical JSON."""
    if not sets:
        return
    connection.execute(
        or_ignore(connection, t.TAGSETS), [{"id": number, "tags": text} for number, text in sets.items()]
    )
    members = [
        {"tagset_id": number, "name": name, "value": str(value)}
        for number, text in sets.items()
        for name, value in read_object(text).items()
    ]
    connection.execute(or_ignore(connection, t.TAGS), members)


def store_price_sources(connection: Connection, sources: Mapping[str, int]) -> None:
    """Store price sources and their ids."""
    if sources:
        rows = [{"id": number, "source": source} for source, number in sources.items()]
        connection.execute(or_ignore(connection, t.PRICE_SOURCES), rows)


def store_templates(connection: Connection, sources: Iterable[StoredSource], now_us: int) -> None:
    """Store template sources; a known one stays as it is."""
    rows = [
        {
            "digest": source.digest,
            "ref": source.ref,
            "source": storable(source.text),
            "includes": to_json(source.includes),
            "first_used_us": now_us,
        }
        for source in sources
    ]
    if rows:
        connection.execute(or_ignore(connection, t.TEMPLATES), rows)
