"""Chaos in its short form: `python3 .ci/start.py harness chaos` runs its whole length."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from chaos import Report, Size, run
from frame import FAMILIES, Books, Comparison, compare, every_fault

from promptkit.ledger.ledger import Ledger
from promptkit.simulator.scenario import read_faults


async def test_nothing_is_lost_nothing_passes_a_cap_and_the_books_are_the_bills(tmp_path: Path) -> None:
    """Random faults of every kind, tight caps, two workers on one ledger, each killed and started again."""
    # A seed that kills early: the harness has time to look before the work is done.
    report = await run(tmp_path, Size(calls=200, processes=2, kills=2, seed=22))
    assert report.wrong == []
    assert report.answers == report.size.wanted == 200
    assert report.kills == 2
    assert report.books.known >= 200 - report.books.swept
    assert report.as_text().endswith("\nholds")
    assert report.as_json()["holds"] is True


def test_every_fault_of_the_table_can_strike() -> None:
    rules = [rule for family in FAMILIES for rule in read_faults(every_fault(family, 0.1))]
    assert len({rule.fault for rule in rules}) > 80
    assert 0 < sum(rule.probability for rule in rules) <= 0.1 * len(FAMILIES)


ATTEMPT = "INSERT INTO attempts (id, call_id, target_number, number, provider, model, state, request_id, started_us, "
CALL = "INSERT INTO calls (id, template_digest, template_ref, prompt_digest, started_us) VALUES (1, 'd', 'r', 'p', 1)"


@pytest.mark.parametrize(
    ("cost", "charged", "billed", "wrong"),
    [
        (70, 70, 70, 0),
        (70, 70, 71, 1),  # another cost than the bill's; its line stays unexplained, too
        (None, 90, 70, 0),
        (None, 60, 70, 2),  # charged less than was billed, alone and in all
        (0, 0, None, 0),
        (70, 70, None, 1),  # a cost that nobody billed
    ],
)
def test_books_that_differ_from_the_bill_are_found(
    tmp_path: Path, cost: int | None, charged: int, billed: int | None, wrong: int
) -> None:
    """The comparison can fail."""
    path = tmp_path / "promptkit.db"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(CALL)
        connection.execute(
            f"{ATTEMPT} cost_pico, charged_pico, max_cost_pico) VALUES (1, 1, 1, 1, 'openai', 'm', 'ok', 'req_a', 1, ?, ?, 100)",
            (cost, charged),
        )
    lines = [] if billed is None else [{"request_id": "a", "billed": True, "pico": billed}]
    found = compare(Books(path), {"openai": {"lines": lines, "total_pico": billed or 0}})
    assert bool(found.wrong) is bool(wrong)


def test_a_scope_above_its_cap_is_found(tmp_path: Path) -> None:
    path = tmp_path / "promptkit.db"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for scope, cap, spent, over in (("day:2026-11-22", 100, 90, 0), ("job:7", 150, 160, 20)):
            values = (scope, cap, spent, 10, over, 1)
            connection.execute(
                "INSERT INTO budgets (scope, cap_pico, spent_pico, reserved_pico, over_pico, updated_us) VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
    books = Books(path)
    assert books.passed_caps({"day": 100, "job": 200}) == []
    assert [text.split(":")[0] for text in books.passed_caps({"day": 99, "job": 169})] == ["day", "job"]
    assert [text.split(":")[0] for text in books.passed_caps({"day": 100, "job": 150})] == ["job"]


def test_a_report_that_does_not_hold_says_so() -> None:
    report = Report(Size(), books=Comparison(unknown={"x": 1}), wrong=["a row is lost"])
    assert report.as_text().endswith("WRONG           a row is lost\nDOES NOT HOLD")
    assert report.as_json()["holds"] is False
