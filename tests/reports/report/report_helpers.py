"""Books to add up: calls of every kind, written through the real ledger, and what they must add up to."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from promptkit.config.loading import load
from promptkit.config.settings import Settings
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptEnd, AttemptStart, CallEnd, CallStart
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Basis, Cost, Fault, Status, Target, Usage

DIGEST = "1:sha256:" + "a" * 64
SOURCE = StoredSource(DIGEST, "ugc/script@2", "Brand: {{ brand }}", {})
HOUR_US = 3_600_000_000
_ids = itertools.count(random.getrandbits(60))


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt: where it went, its cost (None: unknown, up to `ceiling`), its fault (None: an answer)."""

    target: str = "openai/gpt-6-luna"
    pico: int | None = 100
    fault: Fault | None = None
    ceiling: int = 1_000
    target_number: int = 1


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call; `status` None leaves it open after its last attempt."""

    tries: tuple[Try, ...] = (Try(),)
    status: Status | None = Status.OK
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    template: str = "ugc/script@2"
    deliverable: str | None = None
    at_us: int = 0
    between_us: int = 0
    """How long after one attempt the next begins."""


def write(ledger: Ledger, calls: Iterable[CallResult]) -> list[int]:
    """Write them as the engine does; returns their ids."""
    return asyncio.run(_write(ledger, calls))


async def _write(ledger: Ledger, calls: Iterable[CallResult]) -> list[int]:
    await ledger.calls.store_templates([SOURCE])
    return [await _one(ledger, made) for made in calls]


async def _one(ledger: Ledger, made: CallResult) -> int:
    call = CallStart(
        next(_ids), DIGEST, made.template, "sha256:b", made.at_us, {"brand": "Barly"}, made.tags,
        deliverable=made.deliverable,
    )  # fmt: skip
    end = None if made.status is None else CallEnd(call.id, made.status, made.at_us + 1, text="x")
    for place, one in enumerate(made.tries):
        provider, _, model = one.target.partition("/")
        at_us = made.at_us + place * made.between_us
        start = AttemptStart(
            next(_ids), call.id, one.target_number, place + 1, Target(provider, model), one.ceiling, at_us
        )
        await ledger.calls.begin(start, (), call if place == 0 else None)
        cost = None if one.pico is None else Cost(one.pico, "test", Basis.SERVED)
        state = AttemptState.OK
        if one.fault is not None:
            state = AttemptState.UNKNOWN if one.pico is None else AttemptState.FAILED
        done = AttemptEnd(
            start.id, state, one.ceiling if cost is None else cost.pico, at_us + 1, one.fault, "",
            Usage(10, 5, cache_read_tokens=2, reasoning_tokens=1), cost,
        )  # fmt: skip
        await ledger.calls.finish(done, end if place == len(made.tries) - 1 else None)
    if not made.tries and end is not None:
        await ledger.calls.end(end, None, call)
    return call.id


def settings(folder: Path, text: str = "") -> Settings:
    """A configuration whose ledger lies in that folder."""
    (folder / "promptkit.toml").write_text(text, encoding="utf-8")
    return load(folder / "promptkit.toml", env={}, cwd=folder, home=folder)
