"""The outages are rules that the simulator takes, whatever the providers are called."""

from __future__ import annotations

import pytest

from promptkit.reports.drill_outages import SimulatedProvider, outages, select
from promptkit.simulator.scenario import read_faults

THREE = (
    SimulatedProvider("openai", "openai"),
    SimulatedProvider("anthropic", "anthropic"),
    SimulatedProvider("gemini", "gemini"),
)
ODD = (
    SimulatedProvider("mine", "openai"),
    SimulatedProvider("eu", "anthropic"),
    SimulatedProvider("labs", "gemini"),
    SimulatedProvider("openai", "gemini"),
)


@pytest.mark.parametrize("players", [THREE, ODD, THREE[:1], THREE[:2]])
def test_every_outage_is_understood_by_the_simulator(players: tuple[SimulatedProvider, ...]) -> None:
    names = {player.name for player in players}
    for outage in outages(players):
        rules = read_faults([dict(rule) for rule in outage.faults])
        assert {rule.where for rule in rules} <= names
        assert set(outage.affected) <= names


def test_each_provider_each_pair_and_all_of_them() -> None:
    names = [outage.name for outage in outages(THREE)]
    assert names[0] == "well"
    assert names[-1] == "all"
    kinds = ("down", "slow", "silent", "throttled", "credit", "cut", "stream")
    assert {f"{kind}:{player.name}" for kind in kinds for player in THREE} < set(names)
    assert [name for name in names if "+" in name] == [
        "down:openai+anthropic",
        "down:openai+gemini",
        "down:anthropic+gemini",
    ]
    assert len(names) == len(set(names)) == 26


def test_two_providers_are_both_down_only_as_all() -> None:
    assert not [outage.name for outage in outages(THREE[:2]) if "+" in outage.name]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["credit"], ["credit:openai", "credit:anthropic", "credit:gemini"]),
        (["all", "down:gemini"], ["down:gemini", "all"]),
        (["nothing"], []),
    ],
)
def test_outages_are_chosen_by_name_or_kind(asked: list[str], found: list[str]) -> None:
    assert [outage.name for outage in select(outages(THREE), asked)] == found


def test_nothing_named_is_everything() -> None:
    assert list(select(outages(THREE), ())) == list(outages(THREE))
