"""The options of a batch become fields of its job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from studio import Studio

from promptkit.batch.binding import Matrix
from promptkit.batch.options import AUTO, JobOptions
from promptkit.client.options import BatchOptions, check_names, job_fields
from promptkit.engine.context import Session
from promptkit.errors import UsageError
from promptkit.types import OnMiss


@pytest.fixture
async def session(studio: Studio) -> AsyncIterator[Session]:
    async with studio.kit() as kit:
        yield kit.session


@pytest.mark.parametrize(
    ("option", "value", "field", "expected"),
    [
        ("job", "night", "name", "night"),
        ("key", "id", "key_column", "id"),
        ("each", {"angle": ["a", "b"]}, "each", Matrix({"angle": ["a", "b"]})),
        ("tags", {"client": "barly"}, "tags", {"client": "barly"}),
        ("budget_usd", Decimal("0.5"), "cap_pico", 5 * 10**11),
        ("cache", "7d", "cache_s", 604_800.0),
        ("out", "lines.csv", "out", Path("lines.csv")),
        ("pack", "auto", "pack", AUTO),
        ("pack", 4, "pack", 4),
        ("deadline", datetime(2026, 11, 23, tzinfo=UTC), "deadline_s", 1_795_392_000.0),
        ("on_miss", "stop", "on_miss", OnMiss.STOP),
        ("on_unknown", "fail", "resend_unknown", False),
        ("concurrency", 2, "concurrency", 2),
        ("until_budget", False, "until_budget", False),
        ("mapping", {"brand": "marque"}, "mapping", {"brand": "marque"}),
    ],
)
async def test_an_option_becomes_a_field(
    option: str, value: object, field: str, expected: object, session: Session
) -> None:
    """By the field's name, converted; and the job takes it."""
    fields = job_fields({option: value}, session)
    assert fields == {field: expected}
    assert getattr(JobOptions(**fields), field) == expected


async def test_what_is_none_or_no_field_is_left_out(session: Session) -> None:
    """A route belongs to the job itself, the file of failed rows to its output."""
    options: dict[str, Any] = {"route": "default", "targets": ["a/b"], "failed": "failed.csv", "limit": None}
    assert job_fields(options, session) == {}


def test_names_are_checked_against_all_that_a_batch_takes() -> None:
    """Those of a run and of a route included."""
    check_names(dict.fromkeys(["job", "out", "route", "pack"], None), BatchOptions)
    with pytest.raises(UsageError, match="no option 'paralel'"):
        check_names({"paralel": 2}, BatchOptions)
