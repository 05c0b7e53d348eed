"""`kit.batch` and `kit.resume`: what a script may tell a job, and what it gets."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from studio import REF, Studio, brands

from promptkit.errors import BudgetStop, OutputError, StoppedEarly, UsageError
from promptkit.ledger.records import JobState
from promptkit.types import Status, usd


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


async def test_a_batch_takes_what_the_command_takes(studio: Studio) -> None:
    """Mapping, sample, canary, the text's column and both files, by the names of the options."""
    out, failed = studio.folder / "lines.csv", studio.folder / "failed.csv"
    rows = [{"marque": f"B{n}", "brand": ""} for n in range(8)] + [{"marque": "B", "angle": "none such"}]
    async with studio.kit() as kit:
        told: dict[str, Any] = {
            "job": "night", "mapping": {"brand": "marque"}, "text_as": "line", "canary": 2, "out": out, "failed": failed,
        }  # fmt: skip
        few = [row async for row in kit.batch(REF, rows, sample=3, seed=4, **told)]
        assert Counter(row.status for row in few) == {Status.OK: 3, Status.FAILED: 1}
        assert len(rows_of(out)) == 4
        every = [row async for row in kit.batch(REF, rows, **told)]
    assert (len(every), studio.asked()) == (9, 8)
    written = rows_of(out)
    assert [row["marque"] for row in written] == [row["marque"] for row in rows]
    assert all(row["line"] for row in written[:8])
    assert "text" not in written[0]
    [broken] = rows_of(failed)
    assert "none such" in broken["promptkit_failed"]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"deadlin": "06:30"}, "Did you mean 'deadline'"),
        ({"canary": -1}, "canary is -1"),
        ({"limit": 0}, "at least 1"),
        ({"max_fail_rate": 20}, "from 0 to 1"),
        ({"on_miss": "fast"}, "Did you mean 'faster'"),
        ({"on_unknown": "maybe"}, "on_unknown can't be 'maybe'"),
        ({"deadline": "late"}, "is not a time"),
        ({"deadline": datetime(2026, 11, 23)}, "no time zone"),  # noqa: DTZ001 - that is what is refused
        ({"concurrency": 0}, "concurrency is 0"),
    ],
)
async def test_what_cannot_stand_is_refused(studio: Studio, told: dict[str, Any], why: str) -> None:
    """A misspelt option or a value out of bounds is told before anything is read."""
    async with studio.kit() as kit:
        with pytest.raises(UsageError) as refused:
            kit.batch(REF, brands(1), job="night", **told)
    assert why in str(refused.value)


async def test_options_that_are_none_are_not_said(studio: Studio) -> None:
    """A script can hand on what its own command line left out."""
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(2), job="night", deadline=None, limit=None, out=None, on_unknown="fail")
        assert len([row async for row in job]) == 2


async def test_a_deadline_of_a_script_stops_its_job(studio: Studio) -> None:
    """What stops a job is raised after its last result; what was made stands, in the file, too."""
    out = studio.folder / "lines.csv"
    async with studio.kit() as kit:
        over = datetime.now(UTC) - timedelta(seconds=1)
        with pytest.raises(StoppedEarly):
            [row async for row in kit.batch(REF, brands(4), job="night", deadline=over, out=out)]
        assert rows_of(out) == []
        rest = [row async for row in await kit.resume("night")]
    assert (len(rest), len(rows_of(out))) == (4, 4)


async def test_the_file_is_written_for_who_leaves_early(studio: Studio) -> None:
    """What was made until then is in the output, and the rest follows under the same name."""
    out = studio.folder / "lines.csv"
    async with studio.kit() as kit:
        results = aiter(kit.batch(REF, brands(30), job="night", concurrency=3, out=out))
        await anext(results)
        await results.aclose()
        assert 1 <= len(rows_of(out)) == studio.asked() < 30
        assert len([row async for row in kit.batch(REF, brands(30), job="night", out=out)]) == 30
    assert (len(rows_of(out)), studio.asked()) == (30, 30)


async def test_a_file_that_cannot_be_written_is_told_first(studio: Studio) -> None:
    """Before anything is paid for it."""
    async with studio.kit() as kit:
        with pytest.raises(OutputError):
            [row async for row in kit.batch(REF, brands(2), job="night", out=studio.folder / "no" / "x.csv")]
    assert studio.asked() == 0


async def test_a_cancelled_job_goes_on_by_its_name(studio: Studio) -> None:
    """`resume` needs neither rows nor options; a name that is none is answered with the closest one."""
    async with studio.kit() as kit:
        job = kit.batch(REF, brands(6), job="night-{date}", limit=2)
        assert len([row async for row in job]) == 2
        ledger = await kit.session.ledger()
        record = ledger.jobs.get(job.name)
        assert record is not None
        await ledger.jobs.cancel(record.id)
        again = await kit.resume("night-{date}", concurrency=2, limit=3)
        assert again.name == job.name
        assert len([row async for row in again]) == 5
        assert (await again.report()).pending == 1
        assert ledger.jobs.state(record.id) is JobState.OPEN
        with pytest.raises(UsageError, match="night") as refused:
            await kit.resume("nihgt")
    assert refused.value.remedy == f"Did you mean {job.name!r}?" or "Known" in str(refused.value.remedy)


async def test_a_job_that_was_refused_its_cap_is_not_let_past_it_by_a_resume(studio: Studio) -> None:
    """Whether a job may run until its cap stops it is remembered; who means it says so."""
    async with studio.kit() as kit:
        tight: dict[str, Any] = {"job": "night", "budget_usd": "0.0009"}
        with pytest.raises(BudgetStop, match="may need"):
            [row async for row in kit.batch(REF, brands(9), until_budget=False, **tight)]
        with pytest.raises(BudgetStop, match="may need"):
            [row async for row in await kit.resume("night")]
        assert studio.asked() == 0
        assert len([row async for row in await kit.resume("night", until_budget=True)]) == 9


async def test_a_sample_needs_room_for_itself_alone(studio: Studio) -> None:
    """Under a cap that fits ten rows and not a hundred, ten can be tried."""
    async with studio.kit() as kit:
        worst = (await kit.batch(REF, brands(10), job="few").quote()).figures.worst_pico or 0
        cap = usd(2 * worst)
        tried = kit.batch(REF, brands(100), job="night", budget_usd=cap, until_budget=False, sample=10)
        assert len([row async for row in tried]) == 10
        with pytest.raises(BudgetStop, match="may need"):
            [
                row
                async for row in kit.batch(REF, brands(100), job="night", budget_usd=cap, until_budget=False)
            ]


async def test_a_slow_reader_is_waited_for(studio: Studio) -> None:
    """Rows of a generator are taken in before the first call; of calls no more are made than the reader takes, and those under way."""

    def made() -> Iterator[dict[str, object]]:
        yield from brands(60)

    async with studio.kit() as kit:
        taken = 0
        async for _ in kit.batch(REF, made(), job="night", concurrency=4):
            taken += 1
            assert studio.asked() <= taken + 2 * 4 + 1
    assert taken == 60


@pytest.mark.parametrize(
    ("name", "why"), [("brand", "the input has a column"), ("", "is not a name"), (" line", "is not a name")]
)
async def test_a_text_cannot_hide_a_column(studio: Studio, name: str, why: str) -> None:
    """The name of the text's column is refused before anything is sent."""
    async with studio.kit() as kit:
        with pytest.raises(UsageError, match=why):
            [row async for row in kit.batch(REF, brands(2), job="night", text_as=name)]
    assert studio.asked() == 0


async def test_fields_have_their_own_names(studio: Studio) -> None:
    """Where the replies are fields there is no text to name; leaving it out goes on."""
    studio.publish(
        '+++\ndescription = "Fields"\n[variables.brand]\ndescription = "Brand"\n'
        '[output]\ntype = "object"\nproperties = { hook = { type = "string" } }\n+++\n'
        '{% message "user" %}{{ brand }}{% endmessage %}',
        "ad/fields",
    )
    async with studio.kit() as kit:
        with pytest.raises(UsageError, match="are fields"):
            [row async for row in kit.batch("ad/fields", brands(2), job="night", text_as="line")]
        assert len([row async for row in kit.batch("ad/fields", brands(2), job="night")]) == 2
