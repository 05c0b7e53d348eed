"""Rows that wait are put together into packs; what a pack didn't answer is asked for again by halves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from promptkit.engine.calls import CallRequest, CallResult
from promptkit.engine.context import Session
from promptkit.engine.engine import Engine
from promptkit.engine.pack import Room, can_pack, halves, item_ids, packed_limit, packed_prompt, packed_schema
from promptkit.errors import counted
from promptkit.ledger.records import RowRecord
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import Plan
from promptkit.types import Attempt, Call

from .estimates import History, Offers
from .options import AUTO, Pinned
from .pack_size import Chosen, Said, Sizer

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


DELIVERABLE: Final = "deliverable"
"""The one tag that rows of a pack may differ in: costs go to each one's own by its share."""


_HELD: Final = 1_000
"""So many rows wait for others to go with, at most."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A row, and the call that is to be made for it."""

    row: RowRecord
    work: CallRequest


@dataclass(frozen=True, slots=True)
class Unfit:
    """A row that can't be sent, and why."""

    row: RowRecord
    why: str


Bundle: TypeAlias = "list[Ready] | Unfit"
"""Rows that are sent together, or one that isn't sent."""


@dataclass(slots=True)
class _Group:
    """Rows that may share a request."""

    room: Room
    size: int
    rows: list[Ready] = field(default_factory=list[Ready])

    def takes(self, ready: Ready) -> bool:
        """Whether one more fits in."""
        works = [one.work for one in (*self.rows, ready)]
        shared = [message.content for message in ready.work.call.prompt.messages[:-1]]
        own = [work.call.prompt.messages[-1].content for work in works]
        return self.room.fits([*shared, *own], [_limit(work) for work in works])


class Packer:
    """Packs for one run of a job.

    Args:
        catalog: what fits into one request to a model.
        sizer: how many rows go together.
        ids: makes the ids of calls.
        halted: whether nothing new may be sent.
        say: the voice of the run.
    """

    def __init__(
        self,
        catalog: Catalog,
        sizer: Sizer,
        ids: Callable[[], int],
        halted: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._catalog = catalog
        self._sizer = sizer
        self._ids = ids
        self._halted = halted
        self._say = say
        self._rooms: dict[Plan, Room] = {}
        self._packs = self._packed = self._again = 0

    # ------------------------------------------------------------------------------ together

    def bundles(self, rows: Iterable[Ready | Unfit]) -> Iterator[Bundle]:
        """The rows, put together: those that may share a request, and as many as are to.

        Each comes as soon as it is full; what is left over comes at the end, unless the run is halted.
        """
        groups: dict[Hashable, _Group] = {}
        held = 0
        for ready in rows:
            if isinstance(ready, Unfit):
                yield ready
                continue
            size = self._size(ready)
            if size == 1:
                yield [ready]
                continue
            key = _key(ready.work)
            group = groups.setdefault(key, _Group(self._room(ready.work.plan), size))
            group.size = size
            if group.rows and not group.takes(ready):
                held -= len(group.rows)
                yield self._emptied(group)
            group.rows.append(ready)
            held += 1
            if len(group.rows) >= group.size or held > _HELD:
                full = group if len(group.rows) >= group.size else max(groups.values(), key=_rows_of)
                held -= len(full.rows)
                yield self._emptied(full)
        for group in groups.values():
            if group.rows and not self._halted():
                yield self._emptied(group)

    @staticmethod
    def _emptied(group: _Group) -> list[Ready]:
        rows, group.rows = group.rows, []
        return rows

    def _size(self, ready: Ready) -> int:
        if self._sizer.off:
            return 1
        call = ready.work.call
        if not can_pack(call.prompt, call.params, call.schema):
            self._sizer.cannot()
            return 1
        return self._sizer.size(_key(ready.work), ready.work)

    def _room(self, plan: Plan) -> Room:
        room = self._rooms.get(plan)
        if room is None:
            room = self._rooms[plan] = room_of(self._catalog, plan)
        return room

    # ---------------------------------------------------------------------------------- sent

    async def make(self, engine: Engine, bundle: Sequence[Ready]) -> AsyncGenerator[tuple[Ready, CallResult]]:
        """Make the rows of a bundle, each exactly once unless the run is halted meanwhile.

        What an earlier reply serves is not packed. What a pack did not answer is asked for again.
        """
        rows: list[Ready] = []
        for ready in bundle:
            served = await engine.serve(ready.work) if len(bundle) > 1 else None
            if served is None:
                rows.append(ready)
            else:
                yield ready, served
        before: dict[int, tuple[Attempt, ...]] = {}
        waiting = [rows] if rows else []
        while waiting:
            together = waiting.pop()
            failed: list[Ready] = []
            for ready, made in await self._send(engine, together):
                paid = (*before.pop(ready.row.id, ()), *made.attempts)
                if made.ask_again:
                    before[ready.row.id] = paid
                    failed.append(Ready(ready.row, replace(ready.work, id=self._ids())))
                else:
                    yield ready, made if paid == made.attempts else replace(made, attempts=paid)
            if self._halted():
                return  # what failed waits
            self._again += len(failed)
            waiting += reversed([[failed[place] for place in half] for half in halves(len(failed))])

    async def _send(self, engine: Engine, together: Sequence[Ready]) -> list[tuple[Ready, CallResult]]:
        if len(together) == 1:
            return [(together[0], await engine.make(together[0].work))]
        carrier = carrier_of(self._ids, [ready.work for ready in together])
        made = await engine.make(carrier)
        self._packs += 1
        self._packed += len(together)
        failed = sum(one.ask_again for one in made.members)
        self._sizer.learn(_key(together[0].work), len(together), failed)
        return list(zip(together, made.members, strict=True))

    def tell(self) -> None:
        """Say what was packed."""
        if self._packs:
            again = f"; {counted(self._again, 'item')} asked for again" if self._again else ""
            self._say(f"packing: {counted(self._packed, 'row')} in {counted(self._packs, 'request')}{again}")


def make_packer(
    session: Session, ledger: Ledger, pinned: Pinned, rows: int, halted: Callable[[], bool]
) -> Packer:
    """The packer of one run.

    Args:
        session: settings, ids and the voice.
        ledger: the history of the template's answers.
        pinned: what the job runs.
        rows: how many go together; `AUTO`: as many as pay off.
        halted: whether nothing new may be sent.
    """
    catalog = session.settings.catalog
    if rows != AUTO:
        sizer = Said(rows, session.say)
    else:
        offers = Offers(session, pinned.template, History(pinned.template, ledger))
        sizer = Chosen(catalog, lambda target: offers.of(target, pinned.route), session.say)
    return Packer(catalog, sizer, session.ids, halted, session.say)


def room_of(catalog: Catalog, plan: Plan) -> Room:
    """What goes into one request to any target of a plan."""
    windows = [planned.window for planned in plan.targets if planned.window is not None]
    models = [catalog.pair(planned.target)[1] for planned in plan.targets]
    outputs = [model.max_output_tokens for model in models if model.max_output_tokens is not None]
    return Room(min(windows, default=None), min(outputs, default=None))


def carrier_of(ids: Callable[[], int], works: Sequence[CallRequest]) -> CallRequest:
    """The call that carries others in one request; they get new ids, in the order in which they stand in it.

    The last resort, a small model, never gets it: rows that nobody else answers go there alone.
    """
    first = works[0]
    call = first.call
    carrier_id = ids()
    members = tuple(replace(work, id=ids()) for work in works)
    names = item_ids(len(works))
    params = replace(call.params, max_output_tokens=packed_limit([_limit(work) for work in works]))
    return CallRequest(
        id=carrier_id,
        call=Call(
            packed_prompt([work.call.prompt for work in works], names),
            params,
            packed_schema(names, call.schema),
            call.tier,
        ),
        plan=replace(first.plan, last_resort=None),
        route=first.route,
        scopes=first.scopes,
        tags=shared_tags(first.tags),
        job_id=first.job_id,
        members=members,
    )


def _limit(work: CallRequest) -> int:
    return work.call.params.max_output_tokens or 0


def shared_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that rows of one request have in common."""
    return {name: value for name, value in tags.items() if name != DELIVERABLE}


def _key(work: CallRequest) -> Hashable:
    """What calls must have in common to share a request: all but their last message and their deliverable."""
    call = work.call
    return (
        call.prompt.messages[:-1],
        call.prompt.template_digest,
        call.params,
        call.tier,
        work.plan,
        work.route,
        work.scopes,
        frozenset(shared_tags(work.tags).items()),
    )


def _rows_of(group: _Group) -> int:
    return len(group.rows)
