"""`plan`: what a batch would cost and take, as people and programs read it; and `batch`, which refuses what may not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_kit import ROWS, Invoke, config_for

from promptkit.ledger.ledger import Ledger
from promptkit.simulator.server import Simulator

PLAN = ("plan", "ugc/hooks", "rows.csv")
BATCH = ("batch", "ugc/hooks", "rows.csv")


@pytest.mark.usefixtures("project")
class TestPlan:
    def test_people_see_targets_strategies_and_caps(self, invoke: Invoke, sim: Simulator) -> None:
        """A table by target, one by strategy with the route's own marked, and whether it fits the caps."""
        before = len(sim.requests())
        ran = invoke(*PLAN, "--budget", "1", "--each", "language=en,fr")
        assert (ran.code, len(sim.requests())) == (0, before)
        assert ran.out.startswith("ugc/hooks@1: 6 rows, 6 to send\n")
        for told in (
            "\nanthropic/claude-haiku-5-5 ", "\nordered * ", "\ncheapest ", " always suffices; ",
            "this job: $1.00 left of $1.00: fits", "nothing was sent", "without known replies of this template",
        ):  # fmt: skip
            assert told in ran.out

    def test_programs_get_the_same_as_json(self, invoke: Invoke, project: Path) -> None:
        """Money as decimal strings, what is unknown as null, the job where one would go on; nothing is made."""
        told = invoke(*PLAN, "--json").json()
        assert (told["template"], told["rows"], told["job"], told["duration_s"]) == (
            "ugc/hooks@1",
            3,
            None,
            None,
        )
        assert float(told["budget_usd"]["usual"]) <= float(told["budget_usd"]["sure"])
        assert [cap["fits"] for cap in told["caps"]] == [True, True]
        with Ledger.open(project / "promptkit.db") as ledger:
            assert ledger.jobs.newest() == ()
        assert invoke(*BATCH, "-o", "out.csv").code == 0
        after = invoke(*PLAN, "-o", "out.csv", "--json").json()
        assert (after["done"], after["to_send"], after["answers"]) == (3, 0, 3)
        assert after["job"].startswith("hooks-rows-")

    def test_invalid_rows_are_exit_1_and_what_may_not_fit_is_exit_6(
        self, invoke: Invoke, project: Path
    ) -> None:
        """The exit code tells what the batch would do."""
        (project / "rows.csv").write_text(ROWS + ",bar,runners,a4\nBarly,bar,runners,a5\n", encoding="utf-8")
        ran = invoke(*PLAN)
        assert (ran.code, "5 rows, 4 to send, 1 invalid, 1 identical to an earlier row" in ran.out) == (
            1,
            True,
        )
        ran = invoke(*PLAN, "--budget", "0.0001")
        assert (ran.code, "may not fit; batch needs --until-budget" in ran.out) == (6, True)

    def test_without_a_price_nothing_is_sure(self, invoke: Invoke, project: Path, sim: Simulator) -> None:
        """A target without a price makes the money unknown, and says so."""
        config = config_for(sim.url).replace("openai/gpt-6-luna", "openai/gpt-unheard-of")
        (project / "promptkit.toml").write_text(
            config.replace("[budgets]", "allow_unpriced = true\n[budgets]")
            + '\n[[providers.openai.models]]\nid = "gpt-unheard-of"\n',
            encoding="utf-8",
        )
        ran = invoke(*PLAN, "--json").json()
        assert (ran["worst_usd"], ran["budget_usd"]["sure"], ran["caps"][0]["fits"]) == (None, None, False)
        assert "it is unknown whether it fits" in invoke(*PLAN).out
        assert invoke(*PLAN).code == 0

    def test_what_a_prompt_cache_saves_is_told_by_target(self, invoke: Invoke, project: Path) -> None:
        """A line a target where it saves or costs anything, within 80 columns; in JSON it is always there."""
        assert "prompt caching" not in invoke(*PLAN).out
        folder = project / "templates/my/rules"
        folder.mkdir(parents=True)
        rules = " ".join(f"Rule {n}: keep it short and name the product once." for n in range(90))
        (folder / "draft.jinja").write_text(
            "+++\n[variables.brand]\n[params]\nmax_output_tokens = 50\n+++\n"
            f"{{% message 'system' %}}{rules}{{% endmessage %}}\n{{% message 'user' %}}{{{{ brand }}}}{{% endmessage %}}\n"
        )
        plan = ("plan", "my/rules@draft", "rows.csv")
        assert invoke(*plan).code == 0, (invoke(*plan).err, invoke(*plan).out)
        assert "\n\nstrategy " in invoke(*plan).out, "a table of its own"
        [*_, told] = [line for line in invoke(*plan).out.splitlines() if line.startswith("prompt caching: ")]
        assert re.fullmatch(r"prompt caching: about \$0\.0\d+ (less|more) at \w+/[\w.-]+", told)
        saves = [one["cache_saves_usd"] for one in invoke(*plan, "--json").json()["targets"]]
        assert all(float(usd) > 0 for usd in saves)
        (project / "rows.csv").write_text("\n".join(ROWS.splitlines()[:2]) + "\n", encoding="utf-8")
        assert re.search(r"prompt caching: about \$0\.0\d+ more at anthropic/", invoke(*plan).out)

    def test_limits_bound_the_time_where_no_answer_is_known(
        self, invoke: Invoke, project: Path, sim: Simulator
    ) -> None:
        """Three rows at one a minute take over two minutes, however quick the answers may be."""
        (project / "promptkit.toml").write_text(
            config_for(sim.url) + "[providers.openai.limits]\nrequests_per_minute = 1\n", encoding="utf-8"
        )
        assert "over 3 min" in invoke(*PLAN).out


@pytest.mark.usefixtures("project")
class TestPacking:
    def test_what_packing_saves_is_a_line_and_a_key(self, invoke: Invoke) -> None:
        """Without a word of packs what `auto` would do; with a number what that would, the same from `batch`."""
        told = invoke(*PLAN, "--json").json()["packing"]
        assert (told["pack"], told["targets"]) == ("auto", ["openai/gpt-6-luna"])
        assert "--pack auto sends each row alone: packs save too little\n" in invoke(*PLAN).out
        three = invoke(*PLAN, "--pack", "3", "--json").json()["packing"]
        assert (three["pack"], three["rows"], three["requests"], three["why"]) == (3, 3, 1, None)
        assert set(three["row_usd"]) == {"packed", "alone"}
        assert three == invoke(*BATCH, "--pack", "3", "--dry-run", "--json").json()["packing"]
        line = "--pack 3 sends up to 3 rows per request and "
        assert line in invoke(*PLAN, "--pack", "3").out
        assert line in invoke(*BATCH, "--pack", "3", "--dry-run").out
        assert invoke(*PLAN, "--pack", "many").code == 2


@pytest.mark.usefixtures("project")
class TestRefusing:
    def test_what_may_not_fit_is_refused_before_anything_is_sent(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """Exit 6 says what it may need, what the cap has, and the way out, which works."""
        before = len(sim.requests())
        tight = (*BATCH, "-o", "out.csv", "--budget", "0.004")
        ran = invoke(*tight)
        assert (ran.code, len(sim.requests()), (project / "out.csv").exists()) == (6, before, False)
        assert "may need $0.0" in ran.err
        assert "for 3 rows; this job has $0.004 left of $0.004" in ran.err
        assert "--until-budget" in ran.err
        assert invoke(*tight, "--until-budget").code == 0
        assert invoke(*tight).code == 0, "what is done needs no room"
