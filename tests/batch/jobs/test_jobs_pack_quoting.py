"""What a quote tells of packing, beside what packing then costs."""

from __future__ import annotations

from typing import Any

import pytest
from studio import BIGGEST, LINE, REF, Studio, brands, run_all

from promptkit.batch.options import AUTO
from promptkit.batch.pack_size import Packing

LONG = LINE.replace("You write one line.", "You write one line. " + "Keep to the house style, always. " * 150)
NEW = f"{REF}@2"


async def packing(studio: Studio, rows: Any, ref: str = NEW, **options: Any) -> Packing:
    """What is told of packing, after some answers are known."""
    async with studio.kit() as kit:
        told = (await studio.job(kit, rows, "quoted", ref=ref, **options).quote()).packing
    assert told is not None
    return told


@pytest.fixture
def long_lines(studio: Studio) -> Studio:
    """A template whose prompts have much in common, at one target."""
    studio.publish(LONG)
    studio.configure(targets=[BIGGEST])
    return studio


@pytest.mark.parametrize("pack", [AUTO, 4])
async def test_what_is_told_is_what_packing_costs(long_lines: Studio, pack: int) -> None:
    """Requests are as told; what a row costs alone and packed is within a fifth of the bill."""
    async with long_lines.kit() as kit:
        await run_all(long_lines.job(kit, brands(20), "alone", ref=NEW))
        alone, asked = long_lines.billed_pico, long_lines.asked()
        told = (await long_lines.job(kit, brands(20), "packed", ref=NEW, pack=pack).quote()).packing
        await run_all(long_lines.job(kit, brands(20), "packed", ref=NEW, pack=pack, concurrency=1))
    assert told is not None
    assert (told.rows, told.requests) == (20, long_lines.asked() - asked)
    assert told.single_pico == pytest.approx(alone, rel=0.2)
    assert told.packed_pico == pytest.approx(long_lines.billed_pico - alone, rel=0.2)
    assert told.saves_pico == pytest.approx(2 * alone - long_lines.billed_pico, rel=0.2)
    if pack == AUTO:
        assert any(f"up to {told.size} rows per request" in said for said in long_lines.said)


async def test_a_quote_without_a_size_judges_as_auto(long_lines: Studio) -> None:
    """Whoever says nothing of packs hears what `auto` would do, and `auto` says the same of rows that share little."""
    assert await packing(long_lines, brands(20)) == await packing(long_lines, brands(20), pack=AUTO)
    little = await packing(long_lines, brands(3), f"{REF}@1", pack=AUTO)
    assert (little.size, little.requests, little.saves_pico) == (1, 3, 0)
    assert little.reason == "packs save too little"


async def test_rows_that_differ_in_tags_are_not_counted_together(long_lines: Studio) -> None:
    """Packs are of one client; of any deliverable."""
    told = await packing(long_lines, brands(6), tags={"client": "@brand"})
    assert (told.size, told.saves_pico, told.reason) == (1, 0, "no two rows with the same tags begin alike")
    assert (await packing(long_lines, brands(6), tags={"deliverable": "@brand"})).size == 6


async def test_more_groups_than_are_told_apart_go_alone(
    long_lines: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of many clients takes bounded memory: rows of those beyond the bound are counted alone."""
    monkeypatch.setattr("promptkit.batch.quote._MAX_GROUPS", 1)
    rows = [{"brand": f"Brand {number}", "client": str(number % 2)} for number in range(8)]
    assert (await packing(long_lines, rows, tags={"client": "@client"}, pack=4)).requests == 1 + 4


async def test_rows_that_can_not_be_packed_say_why(studio: Studio) -> None:
    """A template that can't share a request, a pack that is too long, and a target without a price."""
    stops = LONG.replace("[params]\n", '[params]\nstop = ["END"]\n')
    studio.publish(stops)
    studio.publish(LONG.replace("max_output_tokens = 400", "max_output_tokens = 20000"))
    studio.configure(targets=[BIGGEST])
    assert (await packing(studio, brands(4), pack=4)).reason == "rows of this template can't share a request"
    assert "too long" in (await packing(studio, brands(4), f"{REF}@3", pack=4)).reason
    big = studio.folder / "providers/big.toml"
    big.write_text(big.read_text().partition("[models.price]")[0])
    studio.configure(targets=[BIGGEST], top="allow_unpriced = true")
    auto = await packing(studio, brands(4), f"{REF}@3")
    assert (auto.size, auto.saves_pico) == (1, None)
    assert auto.reason == "big/big-1 has no price, so the saving is unknown"


async def test_without_rows_nothing_is_told(studio: Studio) -> None:
    """A job that is done saves nothing more."""
    async with studio.kit() as kit:
        assert (await studio.job(kit, [], "none").quote()).packing is None
