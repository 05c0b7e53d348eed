"""`report`: the books added up, for people and for programs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from cli_kit import VALUES, Invoke

from promptkit.simulator.server import Simulator

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def made(invoke: Invoke, sim: Simulator, project: Path) -> None:
    """A job of three rows, one of which fell back, and a call of another client."""
    with (project / "promptkit.toml").open("a", encoding="utf-8") as file:
        file.write('[clients.barly]\nrate_usd = 12\nper = "row"\n')
    sim.script([{"fault": "openai.insufficient_quota", "times": 1}])
    invoke("batch", "ugc/hooks", "rows.csv", "--job", "night", "--tag", "client=barly", "--concurrency", "1")
    invoke("run", "ugc/cta", *VALUES, "--tag", "client=lume", "--target", "gemini/gemini-2.5-flash-lite")


@pytest.mark.usefixtures("made")
class TestReport:
    """After a small night."""

    def test_programs_get_groups_that_add_up(self, invoke: Invoke) -> None:
        """Money is decimal text, groups add up, and margin and fallbacks are told."""
        told = invoke("report", "--by", "client,template", "--since", "today", "--json").json()
        assert told["by"] == ["client", "template"]
        barly, lume = sorted(told["groups"], key=lambda one: one["key"]["client"])
        assert barly["key"] == {"client": "barly", "template": "ugc/hooks@1"}
        assert (barly["calls"], barly["rows"], barly["attempts"], barly["fallbacks"]) == (
            3,
            3,
            4,
            {"quota": 1},
        )
        assert barly["earned_usd"] == "36"
        assert Decimal(barly["margin_usd"]) == 36 - Decimal(barly["cost_usd"])
        assert lume["margin_usd"] is None
        total = told["total"]
        assert Decimal(total["cost_usd"]) == Decimal(barly["cost_usd"]) + Decimal(lume["cost_usd"])
        costs = [Decimal(call["cost_usd"]) for call in invoke("log", "--json").json()]
        assert Decimal(total["cost_usd"]) == sum(costs)

    def test_people_get_a_table_that_fits(self, invoke: Invoke) -> None:
        """Empty columns are left out; below stand the facts of all; no line is wider than 80."""
        lines = invoke("report", "--by", "client").out.splitlines()
        assert lines[0].split() == [
            "client",
            "calls",
            "rows",
            "in",
            "out",
            "cost",
            "failed",
            "attempts",
            "margin",
        ]
        assert max(map(len, lines)) <= 80
        page = "\n".join(lines)
        assert "1 (1 quota)" in page
        assert "4 (4 with a reply), 5 attempts" in page

    def test_without_by_the_total_stands_alone(self, invoke: Invoke) -> None:
        """No table."""
        assert invoke("report").out.split()[:5] == ["calls", "4", "(4", "with", "a"]
        assert "4 (4 with a reply)" in invoke("report").out

    def test_a_tag_that_no_call_has_is_said(self, invoke: Invoke) -> None:
        """One group of all calls, by a tag that was mistyped, says why."""
        assert "none of these calls has cliant" in invoke("report", "--by", "cliant,template").err
        assert "none of these" not in invoke("report", "--by", "client").err

    def test_a_long_table_is_cut_and_says_so(self, invoke: Invoke) -> None:
        """-n bounds the groups."""
        assert "... and 1 more" in invoke("report", "--by", "client", "-n", "1").out

    @pytest.mark.parametrize(
        ("arguments", "calls"),
        [
            (["--tag", "client=lume"], 1),
            (["--template", "ugc/hooks"], 3),
            (["--job", "night"], 3),
            (["--since", "yesterday", "--until", "today"], 4),
            (["--until", "2020-01-01"], 0),
        ],
    )
    def test_it_is_narrowed(self, invoke: Invoke, arguments: list[str], calls: int) -> None:
        """By tags, template, job and time; a day given as the end counts in full."""
        assert invoke("report", *arguments, "--json").json()["total"]["calls"] == calls

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--by", "client,client"], "repeats a name"),
            (["--until", "soon"], "--until 'soon' is not a time"),
            (["--tag", "client"], "is not a tag"),
        ],
    )
    def test_what_can_not_stand_is_exit_2(self, invoke: Invoke, arguments: list[str], told: str) -> None:
        """A doubled name, no time, no tag."""
        ran = invoke("report", *arguments)
        assert (ran.code, told in ran.err) == (2, True)

    def test_nothing_found_is_said(self, invoke: Invoke) -> None:
        """An empty report is no table."""
        ran = invoke("report", "--tag", "client=nobody")
        assert (ran.code, ran.out, ran.err) == (0, "", "promptkit: no such call\n")
