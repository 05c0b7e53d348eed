"""docs/config.md is held against the reader: every key it accepts is in the page, and no other."""

from __future__ import annotations

import re

import pytest
from config_machine import Machine

from promptkit.config.paths import shipped

PAGE = (shipped("providers").parent / "docs" / "config.md").read_text("utf-8")
STRANGE = "qqqqqqqq"

SECTIONS = [
    # the page's heading, and a config whose unknown key makes the reader list what it knows there
    ("Top level", f"{STRANGE} = 1"),
    ("`[routes.NAME]`", f'[routes.a]\ntargets = ["ollama/x"]\n{STRANGE} = 1'),
    ('`[rules."NAME=VALUE"]`', f'[rules."client=a"]\n{STRANGE} = 1'),
    ("`[budgets]`", f"[budgets]\n{STRANGE} = 1"),
    ("`[storage]`", f"[storage]\n{STRANGE} = 1"),
    ("Provider files and `[providers.NAME]`", f"[providers.openai]\n{STRANGE} = 1"),
    ("`limits`", f"[providers.openai.limits]\n{STRANGE} = 1"),
    ("`[[models]]`", f'[[providers.openai.models]]\nid = "x"\n{STRANGE} = 1'),
]


def documented(heading: str) -> set[str]:
    """The keys in the first column of a section's table, those of bare tables included."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([^`]*)`", cell)}


def accepted(machine: Machine, text: str) -> set[str]:
    """The keys that the reader itself names as known."""
    remedy = machine.refused(text).remedy or ""
    found = re.fullmatch(r"Known here: (.*)\.", remedy)
    assert found, remedy
    return set(found[1].split(", "))


@pytest.mark.parametrize(("heading", "text"), SECTIONS)
def test_every_key_is_in_the_page(machine: Machine, heading: str, text: str) -> None:
    """What the reader accepts and what the page lists are the same keys."""
    known = accepted(machine, text)
    own_only = {"trusted_hosts", "trusted_keys"} if heading == "Top level" else set[str]()
    assert documented(heading) - own_only == known


def test_the_users_own_keys_are_in_the_page(machine: Machine) -> None:
    """The two keys of the user's own file are documented where they are accepted."""
    machine.trust('trusted_hosts = ["a.example"]\ntrusted_keys = ["A_KEY"]')
    assert machine.load().file == machine.own / "promptkit.toml"
    assert {"trusted_hosts", "trusted_keys"} <= documented("Top level")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (
            "price",
            f"[[providers.openai.models]]\nid = 'gpt-6-luna'\nprice = {{ input_mtok = 1, output_mtok = 1, {STRANGE} = 1 }}",
        ),
        ("reasoning", f"[[providers.openai.models]]\nid = 'gpt-6-luna'\nreasoning = {{ {STRANGE} = 1 }}"),
        ("clients", f"[storage.clients.a]\n{STRANGE} = 1"),
    ],
)
def test_the_keys_of_inner_tables_are_named(machine: Machine, where: str, text: str) -> None:
    """Keys inside a price, a reasoning map or a client's storage stand in the page as well."""
    for key in accepted(machine, text):
        assert f"`{key}`" in PAGE, f"{key} of {where}"
