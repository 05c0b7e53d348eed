"""The stage: every provider is the simulator, whatever the user's configuration says; rows for any template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from studio import Studio

from promptkit.config.paths import shipped
from promptkit.errors import UsageError
from promptkit.reports.drill_setup import drill_settings, facts_of, sample_rows, scenario_for
from promptkit.templates.library import Library
from promptkit.types import Target

KIT = Library((shipped("templates"),))
REFS = [entry.name for entry in KIT.entries() if not entry.is_partial]

HOSTS = """
[providers.mine]
adapter = "openai"
base_url = "https://mine.example.com/v1"
api_key_env = "MINE_KEY"
[[providers.mine.models]]
id = "mine-1"
context_window = 9000
max_output_tokens = 700
[providers.mine.models.price]
input_mtok = 0.25
output_mtok = 2
[routes.mine]
targets = ["mine/mine-1", "openai/gpt-6-luna"]
last_resort = "local/smollm2-135m"
[rules."client=familyco"]
deny = ["openai"]
"""


@pytest.mark.parametrize("ref", REFS)
def test_made_up_rows_render_in_every_skeleton_of_the_kit(ref: str) -> None:
    template = KIT.load(ref)
    rows = sample_rows(template, [], 5)
    prompts = {template.render(template.bind(row)).digest for row in rows}
    assert len(prompts) == 5


def test_rows_differ_where_a_text_has_room_and_are_alike_where_none_has(studio: Studio) -> None:
    source = '+++\n[variables.tiny]\nmax_length = 1\n[variables.angle]\nchoices = ["a", "b"]\n+++\n{% message "user" %}{{ tiny }}{{ angle }}{% endmessage %}'
    studio.publish(source, "ad/tiny")
    template = Library((studio.folder / "templates",)).load("ad/tiny")
    assert sample_rows(template, [{"tiny": "x", "angle": "b"}], 2) == [{"tiny": "x", "angle": "b"}] * 2


def test_no_address_no_key_and_no_database_of_the_user_is_used(studio: Studio, tmp_path: Path) -> None:
    studio.configure(tables=HOSTS)
    settings = studio.settings({"MINE_KEY": "sk-real-key-0009"})
    played = drill_settings(settings, tmp_path / "drill.db", lambda name: f"http://127.0.0.1:9/{name}")
    assert set(played.catalog.providers) == set(settings.catalog.providers)
    for name, provider in played.catalog.providers.items():
        assert (provider.base_url or "").removesuffix("/v1") == f"http://127.0.0.1:9/{name}"
        assert provider.adapter != "local"
        assert played.keys.usable(provider)
    assert not set(played.keys.secrets()) & set(settings.keys.secrets())
    assert played.database_path != settings.database_path
    assert (played.routes, played.budgets, played.rules) == (
        settings.routes,
        settings.budgets,
        settings.rules,
    )


def test_a_model_of_ones_own_is_played_with_its_sizes_and_price(studio: Studio) -> None:
    studio.configure(tables=HOSTS)
    settings = studio.settings()
    world = scenario_for(settings, settings.routes["mine"])
    rule = next(rule for rule in world.models if rule.provider == "mine")
    assert (rule.context_window, rule.max_output_tokens) == (9000, 700)
    assert (rule.input_usd_mtok, rule.output_usd_mtok) == (0.25, 2)
    assert {"mine", "openai", "local"} <= set(world.ports)
    assert not [rule for rule in world.models if rule.provider == "openai"]  # the simulator knows its own


def test_rules_that_leave_no_target_are_a_usage_error(studio: Studio) -> None:
    studio.configure(tables=HOSTS)
    settings = studio.settings()
    alone = settings.routes["mine"]
    with pytest.raises(UsageError, match="the rules leave no target"):
        facts_of(settings, replace(alone, targets=alone.targets[1:]), {"client": "familyco"}, "ad/line", 3)


def test_rules_and_missing_keys_are_known_before_anything_is_played(studio: Studio) -> None:
    studio.configure(tables=HOSTS)
    settings = studio.settings()
    facts = facts_of(settings, settings.routes["mine"], {"client": "familyco"}, "ad/line", 3)
    assert facts.route.targets == (Target("mine", "mine-1"),)
    assert facts.keyless == ("mine",)
    assert facts.config_table == "[routes.mine]"
