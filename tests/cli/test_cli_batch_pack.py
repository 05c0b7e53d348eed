"""`batch --pack`: rows in one request, and what `show`, `log` and `report` say of them."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
from cli_kit import Invoke

from promptkit.simulator.server import Simulator

BATCH = ("batch", "ugc/hooks", "rows.csv", "-o", "out.csv", "--pack", "3")


@pytest.mark.usefixtures("project")
def test_rows_in_one_request(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """One request for three rows: each has its text and its part of the cost, and the parts add up in all faces."""
    before = len(sim.requests())
    ran = invoke(*BATCH)
    assert ran.code == 0
    assert "packing: 3 rows in 1 request" in ran.err
    assert len(sim.requests()) == before + 1
    rows = list(csv.DictReader(io.StringIO((project / "out.csv").read_text("utf-8"))))
    logged = invoke("log", "--json").json()
    [carrier] = [call for call in logged if call["pack_items"]]
    members = [call for call in logged if call["pack"] == carrier["id"]]
    assert {call["id"] for call in members} == {row["call"] for row in rows}
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(carrier["cost_usd"])
    assert "($" in invoke("log").out
    assert "3 rows of" in invoke("log").out
    report = invoke("report", "--by", "template", "--json").json()
    assert Decimal(report["total"]["cost_usd"]) == Decimal(carrier["cost_usd"])

    whole = invoke("show", carrier["id"], "--json").json()
    assert whole["prompt_digest_matches"]
    assert {item["call"] for item in whole["items"]} == {row["call"] for row in rows}
    assert sum(item["share"] for item in whole["items"]) == pytest.approx(1)
    shown = invoke("show", carrier["id"]).out
    assert "one request for 3 rows" in shown
    assert "(with the items)" in shown
    assert "the digest is the same" in shown

    own = invoke("show", rows[0]["call"], "--json").json()
    assert own["prompt_digest_matches"]
    assert (own["pack"], own["text"], own["items"]) == (carrier["id"], rows[0]["text"], None)
    page = invoke("show", rows[0]["call"]).out
    assert f"in the request of {carrier['id']}" in page
    assert "<item-" not in page

    assert "is done" in invoke(*BATCH).err
    assert len(sim.requests()) == before + 1


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("said", ["0", "101", "many", "-1"])
def test_no_number_of_rows(invoke: Invoke, said: str) -> None:
    """Anything but a number from 1 to 100 or `auto` is refused before anything is sent."""
    ran = invoke(*BATCH[:-1], said)
    assert ran.code == 2
    assert "from 1 (no packs) to 100, or auto" in ran.err


@pytest.mark.usefixtures("project")
def test_variables_that_are_not_kept(invoke: Invoke, project: Path) -> None:
    """Where the settings keep variables out, `show` says why the pack can't be made again."""
    settings = project / "promptkit.toml"
    settings.write_text(f'{settings.read_text()}\n[storage]\nvariables = "none"\n')
    assert invoke(*BATCH).code == 0
    [carrier] = [call for call in invoke("log", "--json").json() if call["pack_items"]]
    assert "its variables were not kept" in invoke("show", carrier["id"]).out
