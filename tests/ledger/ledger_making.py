"""What the ledger's tests write: calls and attempts with fresh ids, and workers that do so."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import replace

from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptEnd, AttemptStart, CallEnd, CallStart, JobStart, RowStart
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Basis, Cost, Finish, Scope, Status, Target, Usage

DIGEST = "1:sha256:" + "a" * 64
SOURCE = StoredSource(DIGEST, "ugc/script@2", "Brand: {{ brand }}", {"shared/voice@1": "1:sha256:bb"})
TARGET = Target("openai", "gpt-6-luna")
USAGE = Usage(100, 50, cache_read_tokens=10, reasoning_tokens=7)

_counter = itertools.count(random.getrandbits(61))  # apart from other processes' ids


def new_id() -> int:
    """An id that no other test process makes."""
    return next(_counter)


def call_start(*, tags: Mapping[str, str] | None = None, **more: object) -> CallStart:
    """A call of the stored template."""
    start = CallStart(
        id=new_id(),
        template_digest=DIGEST,
        template_ref="ugc/script@2",
        prompt_digest="sha256:" + "b" * 64,
        started_us=1_000,
        variables={"brand": "Barly"},
        tags=tags or {},
        route="default",
    )
    return replace(start, **more)  # pyright: ignore[reportArgumentType]


def attempt_start(call_id: int, max_cost_pico: int | None = 1_000, **more: object) -> AttemptStart:
    """An attempt of that call."""
    start = AttemptStart(new_id(), call_id, 1, 1, TARGET, max_cost_pico, 1_000)
    return replace(start, **more)  # pyright: ignore[reportArgumentType]


def attempt_end(attempt: AttemptStart, pico: int = 600, **more: object) -> AttemptEnd:
    """A good answer to it, at that cost."""
    end = AttemptEnd(
        id=attempt.id,
        state=AttemptState.OK,
        charged_pico=pico,
        ended_us=2_000,
        usage=USAGE,
        cost=Cost(pico, "genai-prices 0.2.3", Basis.SERVED),
        served_model="gpt-6-luna-2026-11-01",
        tier="default",
        request_id="req_1",
        latency_us=1_000,
        billed=True,
    )
    return replace(end, **more)  # pyright: ignore[reportArgumentType]


def call_end(call: CallStart, text: str | None = "A script.", **more: object) -> CallEnd:
    """Its end, with that reply."""
    end = CallEnd(call.id, Status.OK, 2_000, text=text, text_sha256="c" * 64, finish=Finish.STOP)
    return replace(end, **more)  # pyright: ignore[reportArgumentType]


def job_start(name: str = "night", **more: object) -> JobStart:
    """A job of the stored template."""
    start = JobStart(
        id=new_id(),
        name=name,
        template_digest=DIGEST,
        template_ref="ugc/script@2",
        route="default",
        created_us=1_000,
        params={"max_output_tokens": 600},
        columns=("sku", "brand"),
    )
    return replace(start, **more)  # pyright: ignore[reportArgumentType]


def row_start(position: int, content: str | None = None, **more: object) -> RowStart:
    """The row at that position, keyed by it."""
    brand = content or f"brand {position}"
    start = RowStart(new_id(), f"sku-{position}", brand, position, {"brand": brand}, line=position + 2)
    return replace(start, **more)  # pyright: ignore[reportArgumentType]


async def one_call(ledger: Ledger, scopes: tuple[Scope, ...] = (), pico: int = 600) -> CallStart:
    """A call from its beginning to its end."""
    call = call_start()
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, scopes, call)
    await ledger.calls.finish(attempt_end(attempt, pico), call_end(call))
    return call
