"""What a report sums up: counts, tokens and money that add, whatever they are grouped by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final, TypeAlias

from .answers import Money

Key: TypeAlias = "tuple[str | int | None, ...]"
"""The values that a group stands for, in the order in which they were asked for; None: it has none."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over calls and their attempts; every field adds. Money in pico-USD.

    `answered` calls have a reply, `ended` ones have ended. `rows` are rows of jobs that were done
    by these calls. `known` is what attempts cost, `charged` that and the ceilings of the `unknown`
    ones; `lost_*` is what went to attempts that did not yield a reply that was kept, `named_*` what
    went to calls of a deliverable. Tokens are those that providers told; `cache_read_tokens` are
    part of `input_tokens`, `reasoning_tokens` of `output_tokens`. `cache_saved` is what the providers'
    prompt caches saved (below 0 where writing them cost more), `reply_saved` what replies saved that were
    used again.
    """

    calls: int = 0
    ended: int = 0
    answered: int = 0
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    attempts: int = 0
    unknown: int = 0
    known_pico: int = 0
    charged_pico: int = 0
    lost_attempts: int = 0
    lost_unknown: int = 0
    lost_known_pico: int = 0
    lost_charged_pico: int = 0
    named_known_pico: int = 0
    named_charged_pico: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_saved_pico: int = 0
    reply_saved_pico: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(_VALUES(self), _VALUES(other), strict=True)))

    @property
    def money(self) -> Money:
        """What all attempts cost."""
        return Money(self.known_pico, self.charged_pico, self.unknown, self.attempts)

    @property
    def lost(self) -> Money:
        """What of it was lost to retries."""
        return Money(self.lost_known_pico, self.lost_charged_pico, self.lost_unknown, self.lost_attempts)


FIELDS: Final = tuple(one.name for one in fields(Tally))
_VALUES: Final = attrgetter(*FIELDS)


@dataclass(frozen=True, slots=True)
class SumOf:
    """What to sum up.

    Args:
        by: `template`, `target`, `job`, `day`, `deliverable`; any other name is a tag.
        since_us: calls and attempts that started then or later.
        until_us: those that started before.
        slot_us: instead of a day, the number of the slot of this length, since the epoch.
        tags: only calls with these tags.
        template: only calls of this skeleton, with or without its version.
        job: only calls of this job.
    """

    by: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    slot_us: int = 1
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    template: str | None = None
    job: str | None = None
