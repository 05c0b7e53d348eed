"""`promptkit budgets`, and what batch and run say of caps."""

from __future__ import annotations

import asyncio
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_kit import VALUES, Invoke, config_for

from promptkit.engine.context import Session, load_settings
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptEnd, AttemptStart, CallStart
from promptkit.simulator.server import Simulator
from promptkit.types import AttemptState, Cost, Scope, Target

HOOKS = ("run", "ugc/hooks", *VALUES)


def configure(project: Path, sim: Simulator, budgets: str, tables: str = "") -> None:
    (project / "promptkit.toml").write_text(config_for(sim.url, budgets=budgets) + tables)


def line(invoke: Invoke, per: str, tag: str | None = None, job: str | None = None) -> dict[str, Any]:
    lines = invoke("budgets", "--json").json()
    (found,) = [each for each in lines if (each["per"], each["tag"], each["job"]) == (per, tag, job)]
    return found


def test_no_caps_are_said(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """Where nothing is capped there is nothing to show, and that is said."""
    configure(project, sim, "")
    ran = invoke("budgets")
    assert (ran.code, ran.out) == (0, "")
    assert "there are no caps; set them under [budgets]" in ran.err
    assert invoke("budgets", "--json").json() == []


def test_caps_are_shown_before_the_first_call(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """Without a ledger every cap stands whole, and none is made."""
    (project / "promptkit.db").unlink()
    configure(
        project, sim, 'per_job_usd = 5\nper_day_usd = 20\n[budgets.tags."client=barly"]\nper_month_usd = 50'
    )
    ran = invoke("budgets")
    assert ran.code == 0
    assert "each job" in ran.out
    assert re.search(r"the day\s+\$20.00\s+\$0\s+\$0\s+a call above \$20.00\s+\d{4}-\d\d-\d\d 00:00", ran.out)
    assert re.search(r"the month, client=barly\s+\$50.00", ran.out)
    assert not (project / "promptkit.db").exists()


def test_what_is_spent_is_shown_by_scope(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """A call counts in the day and in its client's month, and in no other client's."""
    configure(
        project,
        sim,
        "per_day_usd = 20\nsoft_per_day_usd = 0.000001\n"
        '[budgets.tags."client=barly"]\nper_month_usd = 50\n'
        '[budgets.tags."client=other"]\nsoft_per_month_usd = 5',
    )
    ran = invoke(*HOOKS, "--tag", "client=barly", "--json")
    cost = Decimal(ran.json()["cost_usd"])
    assert ran.code == 0
    assert ran.err.count("soft cap passed") == 1
    assert "the budget day 20" in ran.err
    day, barly, other = (
        line(invoke, "day"), line(invoke, "month", "client=barly"), line(invoke, "month", "client=other")
    )  # fmt: skip
    assert Decimal(day["spent_usd"]) == Decimal(barly["spent_usd"]) == cost
    assert (day["reserved_usd"], day["over_usd"], day["soft_passed"], day["stopped"]) == (
        "0",
        "0",
        True,
        False,
    )
    assert Decimal(day["left_usd"]) == Decimal(day["refuses_above_usd"]) == 20 - cost
    assert day["resets"].endswith("T00:00:00Z")
    assert (other["spent_usd"], other["cap_usd"], other["left_usd"], other["refuses_above_usd"]) == (
        "0", None, None, None,
    )  # fmt: skip
    text = invoke("budgets").out
    assert ", passed" in text
    assert re.search(r"the month, client=other .*nothing", text)


def test_a_lowered_cap_shows_what_stands_over_it(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """A cap below what was spent refuses everything, also before any call took it up; raised, it admits again."""
    configure(project, sim, "per_day_usd = 20")
    assert invoke(*HOOKS).code == 0
    configure(project, sim, "per_day_usd = 0.000001")
    day = line(invoke, "day")
    assert Decimal(day["over_usd"]) == Decimal(day["spent_usd"]) - Decimal("0.000001")
    assert (day["left_usd"], day["refuses_above_usd"]) == ("0", "0")
    assert "everything that costs" in invoke("budgets").out
    assert invoke(*HOOKS).code == 6
    configure(project, sim, "per_day_usd = 20")
    assert invoke(*HOOKS).code == 0


async def _spend_and_hold(ledger: Ledger, scope: Scope, ceiling: int, spent: int, held: int) -> None:
    """Make an attempt under a scope, and leave another one open."""
    session = Session(load_settings(ledger.path.parent / "promptkit.toml"))
    template = session.template("ugc/hooks")
    await ledger.calls.store_templates(template.sources())
    call = CallStart(session.ids(), template.digest, "ugc/hooks@1", "sha256:x", 1)
    target = Target("openai", "gpt-6-luna")
    attempt = AttemptStart(session.ids(), call.id, 1, 1, target, ceiling, 1)
    await ledger.calls.begin(attempt, (scope,), call)
    await ledger.calls.finish(AttemptEnd(attempt.id, AttemptState.OK, spent, 2, cost=Cost(spent, "test")))
    if held:
        await ledger.calls.begin(AttemptStart(session.ids(), call.id, 1, 2, target, held, 1), (scope,))


USD = 10**12


def test_holds_are_shown_and_what_waits_for_them(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """What other calls hold refuses nothing: a call that fits without them waits."""
    configure(project, sim, "per_day_usd = 20")
    scope = Scope(line(invoke, "day")["scope"], 20 * USD)
    with Ledger.open(project / "promptkit.db") as ledger:
        asyncio.run(_spend_and_hold(ledger, scope, USD, USD, 5 * USD))
        day, text = line(invoke, "day"), invoke("budgets").out
    assert (day["spent_usd"], day["reserved_usd"]) == ("1", "5")
    assert (day["left_usd"], day["refuses_above_usd"]) == ("14", "19")
    assert "a call above $19.00; above $14.00 waits" in text


def test_a_bill_above_its_ceiling_is_shown(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """A scope that an overrun stopped refuses everything, and says why, until its cap is raised."""
    configure(project, sim, "per_day_usd = 20")
    scope = Scope(line(invoke, "day")["scope"], 20 * USD)
    with Ledger.open(project / "promptkit.db") as ledger:
        asyncio.run(_spend_and_hold(ledger, scope, USD, 2 * USD, 0))
    day = line(invoke, "day")
    assert (day["stopped"], day["left_usd"], day["refuses_above_usd"]) == (True, "0", "0")
    assert "a bill exceeded its max cost" in invoke("budgets").out
    configure(project, sim, "per_day_usd = 21")
    assert (line(invoke, "day")["stopped"], line(invoke, "day")["left_usd"]) == (False, "19")


def test_an_open_job_has_its_line(invoke: Invoke, project: Path, sim: Simulator) -> None:
    """A job that isn't done is shown with the cap it ran under; a soft cap is told again at its end."""
    configure(project, sim, "soft_per_job_usd = 0.000001")
    ran = invoke(
        "batch", "ugc/hooks", "rows.csv", "--job", "night", "-o", "out.csv", "--limit", "1", "--budget", "2"
    )
    assert ran.code == 0
    assert ran.err.count("soft cap passed") == 2  # when it happened, and at the end
    night = line(invoke, "job", job="night")
    assert (night["cap_usd"], night["soft_usd"], night["soft_passed"]) == ("2", "0.000001", True)
    assert Decimal(night["spent_usd"]) > 0
    assert night["resets"] is None
    assert re.search(r"job night\s+\$2.00", invoke("budgets").out)
    ran = invoke("batch", "ugc/hooks", "rows.csv", "--job", "night", "-o", "out.csv", "--json")
    summary = json.loads(ran.out)
    assert summary["soft_caps_passed"] == [night["scope"]]
    assert [each["job"] for each in invoke("budgets", "--json").json()] == [None]


@pytest.mark.parametrize("command", ["run", "batch"])
def test_a_rule_that_leaves_nothing_is_named(
    command: str, invoke: Invoke, project: Path, sim: Simulator
) -> None:
    """A call for which the rules leave no target says which rule it is, and sends nothing."""
    configure(project, sim, "", '[rules."client=familyco"]\nallow = ["mistral"]\n')
    before = len(sim.requests())
    arguments = (*HOOKS,) if command == "run" else ("batch", "ugc/hooks", "rows.csv", "-o", "out.csv")
    ran = invoke(*arguments, "--tag", "client=familyco")
    assert ran.code == 2
    assert '[rules."client=familyco"] forbids every one of them' in ran.err
    assert len(sim.requests()) == before
