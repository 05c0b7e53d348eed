"""What packing would save of a quote's rows: they are told apart as the packer does, and judged as `--pack auto` judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from promptkit.batch.figures import Offer
from promptkit.batch.pack import can_pack
from promptkit.batch.pack_saving import Judged, Packing, packing_of
from promptkit.batch.pack_size import Sizes
from promptkit.session import Session
from promptkit.templates import Skeleton
from promptkit.types import Call, Prompt, Route, Value

from .options import AUTO
from .pack_sizes import pays, sizes_of, tokens_of
from .packing import room_of, shared_tags

if TYPE_CHECKING:
    from promptkit.routing.flow import Plan

_GROUPS: Final = 10_000
"""So many groups are told apart, so that a table of any length is counted in bounded memory; rows of others go alone."""
_CANNOT: Final = "rows of this skeleton can't share a request"
_TOO_LONG: Final = "two rows together are too long for a request"


class PackTally:
    """Rows that fare alike, as packs would hold them.

    Args:
        session: settings.
        skeleton: makes their prompts.
        route: theirs.
        plan: where they may go.
        offer: the target that is asked first.
        pack: how many rows go together as the user says; `AUTO` or 1: as many as pay off.
    """

    def __init__(
        self, session: Session, skeleton: Skeleton, route: Route, plan: Plan, offer: Offer, pack: int
    ) -> None:
        self._catalog = session.settings.catalog
        self._skeleton = skeleton
        self._params = session.params(skeleton, route)
        self._plan = plan
        self._offer = offer
        self._said = None if pack in (AUTO, 1) else pack
        self._groups: Counter[int] = Counter()
        self._others = 0
        self._judged: Judged | None = None
        self._first = Sizes(0, 0, 0)
        self._shared = self._own = self._counted = 0

    def add(
        self, prompt: Prompt, tags: Mapping[str, str], bound: Mapping[str, Value], stands_for: int
    ) -> None:
        """Add a row.

        Args:
            prompt: its own.
            tags: its own.
            bound: its variables.
            stands_for: of so many rows this one's tokens are counted; 0: they aren't.
        """
        if self._judged is None:
            self._judged = self._judge(bound)
        if self._judged.size == 1:
            self._others += 1
        else:
            self._group(prompt, tags)
        if stands_for:
            shared, own = tokens_of(prompt, self._skeleton.spec.output)
            self._shared += stands_for * shared
            self._own += stands_for * own
            self._counted += stands_for

    def saving(self) -> Packing:
        """What packing saves of the rows that were added."""
        groups = Counter(self._groups.values())
        groups[1] += self._others
        sizes = self._first
        if self._counted:
            shared, own = round(self._shared / self._counted), round(self._own / self._counted)
            sizes = Sizes(shared, own, sizes.reply, sizes.cached)
        return packing_of(self._offer.target, self._offer.tariff, sizes, self._judged or Judged(1), groups)

    def _group(self, prompt: Prompt, tags: Mapping[str, str]) -> None:
        shared = tuple(message.content for message in prompt.messages[:-1])
        key = hash((shared, frozenset(shared_tags(tags).items())))
        if key in self._groups or len(self._groups) < _GROUPS:
            self._groups[key] += 1
        else:
            self._others += 1

    def _judge(self, bound: Mapping[str, Value]) -> Judged:
        """How many go together, by the first row, as a run does it."""
        prompt = self._skeleton.render(bound, prefix=True)
        call = Call(prompt, self._params, self._skeleton.spec.output)
        self._first = sizes_of(call, self._offer, self._catalog)
        if not can_pack(prompt, call.params, call.schema):
            return Judged(1, _CANNOT, self._said)
        rows = self._said
        if rows is None:
            size, why = pays(self._offer, self._first)
            if why:
                return Judged(1, why)
            rows = size.rows
        limit = call.params.max_output_tokens or 0
        fitting = room_of(self._catalog, self._plan).most(prompt, limit, rows)
        return Judged(fitting, "" if fitting > 1 else _TOO_LONG, self._said)
