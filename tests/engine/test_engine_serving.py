"""The reply cache: the same call again is served by the reply that was paid, where that is asked for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from studio import ANTHROPIC, LINE, OPENAI, REF, Studio, assert_books_agree, brands, run_all

from promptkit.errors import ConfigError, UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.types import Status
from promptkit.types.ids import read_id

VALUES = {"brand": "Barly"}


def change(ledger: Ledger, **columns: str | int) -> None:
    """Set columns of every call."""
    names = ", ".join(f"{name} = ?" for name in columns)
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute(f"UPDATE calls SET {names}", tuple(columns.values()))  # noqa: S608 - our own names


async def test_the_same_call_again_costs_nothing(studio: Studio) -> None:
    """It is a call of its own, with no attempt, that names the one it comes from and what that cost."""
    async with studio.kit() as kit:
        paid = await kit.run(REF, VALUES, cache="7d")
        hit = await kit.run(REF, VALUES, cache="7d", tags={"client": "barly"})
        again = await kit.run(REF, VALUES, cache="7d")
        ledger = await kit.session.ledger()
        record, logged = ledger.calls.get(read_id(hit.id)), ledger.calls.search(1)[0]
        assert_books_agree(ledger, studio)
    assert (hit.text, hit.target, hit.served_model) == (paid.text, paid.target, paid.served_model)
    assert (hit.status, hit.attempts, hit.cost_pico, hit.charged_pico) == (Status.OK, (), 0, 0)
    assert (hit.cached_from, hit.saved_pico) == (paid.id, paid.cost_pico)
    assert paid.cached_from is None
    assert again.cached_from == paid.id, "what was served doesn't serve: its age is the original's"
    assert studio.asked() == 1
    assert record is not None
    assert (record.cached_from_id, record.saved_pico, record.text) == (
        read_id(paid.id),
        paid.cost_pico,
        paid.text,
    )
    assert (record.status, record.attempts, dict(record.tags)) == (Status.OK, (), {"client": "barly"})
    assert (logged.cached_from_id, logged.target) == (read_id(paid.id), paid.target)


async def test_nothing_is_served_that_nobody_asked_for(studio: Studio) -> None:
    """Without a cache every call is made; other variables, parameters or targets are other calls."""
    async with studio.kit() as kit:
        await kit.run(REF, VALUES)
        first = await kit.run(REF, VALUES, cache="7d")
        assert first.cached_from is None, "a call without a cache leaves nothing for one"
        others: list[dict[str, Any]] = [
            {"variables": VALUES},
            {"variables": VALUES, "cache": "0"},
            {"variables": {"brand": "Other"}, "cache": "7d"},
            {"variables": {**VALUES, "angle": "problem"}, "cache": "7d"},
            {"variables": VALUES, "cache": "7d", "targets": [ANTHROPIC]},
        ]
        for options in others:
            assert (await kit.run(REF, **options)).cached_from is None
        served = await kit.run(REF, VALUES, cache="7d", targets=[OPENAI])
        assert served.cached_from is not None
        assert served.cached_from != first.id, "cache 0 asked anew, and the newest serves"
    assert studio.asked() == 7


async def test_a_route_can_have_a_cache(studio: Studio) -> None:
    """Each call over it looks there first; a call can do without, and explicit targets have none."""
    studio.configure(route='cache = "12h"')
    async with studio.kit() as kit:
        paid = await kit.run(REF, VALUES)
        assert (await kit.run(REF, VALUES)).cached_from == paid.id
        assert (await kit.run(REF, VALUES, cache="0")).cached_from is None
        assert (await kit.run(REF, VALUES, targets=[OPENAI])).cached_from is None


async def test_an_age_that_is_none_is_refused_before_anything_is_sent(studio: Studio) -> None:
    """In a call, and in the configuration with its file and line."""
    async with studio.kit() as kit:
        with pytest.raises(UsageError, match="7d, 12h"):
            await kit.run(REF, VALUES, cache="a week")
    studio.configure(route='cache = "soon"')
    with pytest.raises(ConfigError, match=r"promptkit\.toml") as error:
        studio.settings()
    assert error.value.line is not None
    assert studio.asked() == 0


@pytest.mark.parametrize(
    "columns",
    [
        {"verdict": "reject"},
        {"forgotten_us": 1},
        {"ended_us": 1},
        {"status": "degraded"},
        {"flags": '["x"]'},
    ],
)
async def test_what_must_not_serve_is_not_served(studio: Studio, columns: dict[str, Any]) -> None:
    """Rejected, forgotten, too old, degraded, or kept in spite of its checks."""
    async with studio.kit() as kit:
        await kit.run(REF, VALUES, cache="7d")
        change(await kit.session.ledger(), **columns)
        assert (await kit.run(REF, VALUES, cache="7d")).cached_from is None


async def test_an_accepted_reply_serves(studio: Studio) -> None:
    """A verdict alone is no reason."""
    async with studio.kit() as kit:
        paid = await kit.run(REF, VALUES, cache="7d")
        change(await kit.session.ledger(), verdict="accept")
        assert (await kit.run(REF, VALUES, cache="7d")).cached_from == paid.id


async def test_a_truncated_reply_serves_nobody(studio: Studio) -> None:
    """It is kept, and the call is made again."""
    studio.publish(LINE.replace("max_output_tokens = 400", "max_output_tokens = 3"))
    async with studio.kit() as kit:
        assert (await kit.run(REF, VALUES, cache="7d")).status is Status.TRUNCATED
        assert (await kit.run(REF, VALUES, cache="7d")).cached_from is None


async def test_replies_that_are_not_kept_serve_nobody(studio: Studio) -> None:
    """`[storage] replies = "hash"` leaves nothing to serve."""
    studio.configure(tables='[storage]\nreplies = "hash"')
    async with studio.kit() as kit:
        await kit.run(REF, VALUES, cache="7d")
        assert (await kit.run(REF, VALUES, cache="7d")).cached_from is None


async def test_what_a_client_keeps_out_is_kept_out_of_a_hit(studio: Studio) -> None:
    """The reply of another serves it; its own books have the digest alone."""
    studio.configure(tables='[storage.clients.quiet]\nreplies = "hash"\nvariables = "none"')
    async with studio.kit() as kit:
        paid = await kit.run(REF, VALUES, cache="7d")
        hit = await kit.run(REF, VALUES, cache="7d", tags={"client": "quiet"})
        record = (await kit.session.ledger()).calls.get(read_id(hit.id))
    assert hit.cached_from == paid.id
    assert record is not None
    assert (record.text, record.variables) == (None, None)
    assert record.text_sha256 is not None


async def test_a_reply_is_held_against_the_checks_of_the_call_it_serves(studio: Studio) -> None:
    """A newer version with the same words and stricter checks isn't served what breaks them."""
    async with studio.kit() as kit:
        paid = await kit.run(REF, VALUES, cache="7d")
    for rule, serves in (("max_words = 100000", True), ("min_words = 100000", False)):
        studio.publish(LINE.replace("[params]", f"[checks]\n{rule}\n[params]"))
        async with studio.kit() as kit:
            reply = await kit.run(REF, VALUES, cache="7d")
        assert (reply.cached_from == paid.id) is serves


async def test_rows_are_served_without_a_request(studio: Studio) -> None:
    """They are done, cost nothing, and their output is as of any other row."""
    async with studio.kit() as kit:
        first = await run_all(studio.job(kit, brands(4), cache_s=3600.0))
        second = await run_all(studio.job(kit, brands(6), name="again", cache_s=3600.0))
        ledger = await kit.session.ledger()
        assert_books_agree(ledger, studio)
        job = ledger.jobs.get("again")
        assert job is not None
        stored = list(ledger.jobs.output_rows(job.id))
    assert [result.text for result in second[:4]] == [result.text for result in first]
    assert [result.cached_from is not None for result in second] == [True] * 4 + [False] * 2
    assert all(result.cost is not None and result.cost.pico == 0 for result in second[:4])
    assert [result.cached_from for result in second[:4]] == [result.call for result in first]
    assert [row.target for row in stored] == [result.target for result in second]
    assert [row.text for row in stored] == [result.text for result in second]
    assert studio.asked() == 6


async def test_a_stream_is_served_in_one_piece(studio: Studio) -> None:
    """Who reads it as it comes gets all of it at once."""
    async with studio.kit() as kit:
        paid = await kit.run(REF, VALUES, cache="7d")
        async with kit.stream(REF, VALUES, cache="7d") as stream:
            pieces = [piece async for piece in stream]
        assert pieces == [paid.text]
        assert stream.reply.cached_from == paid.id
