"""A template's whole life from the command line alone, as a new user lives it: every step a process."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from cli_kit import KEYS, Ran, config_for, process

from promptkit.simulator.server import Simulator

NAME = "clips/opening"
DRAFT = """+++
description = "First line of a video"
[variables.product]
description = "What it is about"
min_length = 1
max_length = 100
[variables.language]
description = "Language of the rules"
choices = ["en", "fr"]
default = "en"
[params]
max_output_tokens = 2000
+++
{% message "system" %}
You write one line of 12 words at most.
{% include "shared/family-safe" %}
{% endmessage %}
{% message "user" %}
Product: {{ product }}
{% endmessage %}
"""
TESTS = """[[tests]]
name = "tea"
variables = { product = "iced tea" }
contains = ["iced tea"]
"""


class Studio:
    """A folder in which somebody types commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder.parent / "home"
        home.mkdir()
        # An environment of a new user: no keys but the project's own, and a name of their own.
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "LOGNAME": "ana", "NO_COLOR": "1"}

    def types(self, *arguments: str, code: int = 0) -> Ran:
        ran = process(*arguments, cwd=self.folder, env=self.env)
        assert ran.code == code, f"{arguments}: {ran}"
        return ran

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.folder / "templates" / NAME / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def runs(self, ref: str = NAME) -> str:
        """A call; its id."""
        return self.types("run", ref, "-v", "product=iced tea", "--json").json()["id"]


@pytest.fixture
def studio(tmp_path: Path, sim: Simulator) -> Studio:
    folder = tmp_path / "studio"
    folder.mkdir()
    studio = Studio(folder)
    studio.types("init")
    (folder / "promptkit.toml").write_text(config_for(sim.url))
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in KEYS.items()))
    return studio


def test_a_skeletons_life(studio: Studio) -> None:
    """New, edit, lint, test, publish, promote, run, publish v2, diff, promote, roll back; the exact prompt of
    an old call is still there after all that."""
    folder = studio.folder / "templates" / NAME

    # new, and a first look
    studio.types("templates", "new", NAME)
    assert "--- system ---" in studio.types("render", NAME).out

    # edit, lint, test
    (folder / "draft.jinja").write_text(DRAFT.replace("{{ product }}", "{{ prodct }}"))
    assert "Did you mean product?" in studio.types("templates", "lint", f"{NAME}@draft", code=3).out
    (folder / "draft.jinja").write_text(DRAFT)
    (folder / "tests.toml").write_text(TESTS)
    studio.types("templates", "lint", f"{NAME}@draft")
    studio.types("templates", "test", f"{NAME}@draft")

    # a draft that is tried leaves its exact prompt behind, too
    tried = studio.runs(f"{NAME}@draft")

    # publish: pinned; a test that fails would have refused it
    studio.edit("draft.jinja", "Product: {{ product }}", "Product: {{ product|upper }}")
    assert "test 'tea'" in studio.types("templates", "publish", NAME, code=3).err
    studio.edit("draft.jinja", "{{ product|upper }}", "{{ product }}")
    published = studio.types("templates", "publish", NAME)
    assert published.out == f"{NAME}@1\n"
    assert 'pinned to "shared/family-safe@1"' in published.err

    # promote and run
    studio.types("templates", "promote", f"{NAME}@1", "production", "--reason", "first")
    first = studio.runs()
    sent_first = studio.types("show", first, "--json").json()

    # a second version, looked at before it goes out
    studio.edit("draft.jinja", "12 words", "9 words")
    studio.edit("draft.jinja", "max_length = 100", "max_length = 80")
    assert studio.types("templates", "publish", NAME).out == f"{NAME}@2\n"
    diff = studio.types("templates", "diff", f"{NAME}@1", f"{NAME}@2").out
    assert "~ product.max_length: 100 -> 80" in diff
    assert "-You write one line of 12 words at most.\n+You write one line of 9 words at most." in diff
    assert "prompt of 'tea': system message" in diff
    assert studio.types("run", NAME, "-v", "product=x", "--json").json()["template"] == f"{NAME}@1"

    # promote it, run, regret it
    studio.types("templates", "promote", f"{NAME}@2", "production")
    second = studio.runs()
    studio.types("templates", "rollback", NAME, "production", "--reason", "clients complain")
    third = studio.runs()
    shown = studio.types("templates", "show", NAME).out
    assert "1 production, 2, draft" in shown
    assert "clients complain" in shown

    # the draft goes on, and even the folder goes: what was sent stays known
    studio.edit("draft.jinja", "You write", "You shout")
    pages = {call: studio.types("show", call).out for call in (tried, first, second, third)}
    assert "9 words" in pages[second]
    assert all("12 words" in pages[call] for call in (tried, first, third))
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink()
    again = studio.types("show", first, "--json").json()
    assert again == sent_first
    assert (again["template"], again["prompt_digest_matches"]) == (f"{NAME}@1", True)
    page = studio.types("show", first).out
    assert "12 words" in page
    assert "the digest is the same" in page

    # a ledger that lies is found out: the digest of what is rendered again is checked
    with sqlite3.connect(studio.folder / "promptkit.db") as database:
        database.execute("UPDATE calls SET variables = replace(variables, 'iced tea', 'hot tea')")
    assert "NOT THE SAME" in studio.types("show", first).out


def test_every_page_of_the_life_has_help(studio: Studio) -> None:
    """Each command of a template's life says what it does and shows an example."""
    for command in ("new", "lint", "test", "publish", "promote", "rollback", "diff", "show", "list"):
        told = studio.types("templates", command, "--help").out
        assert f"promptkit templates {command}" in told
        assert "Examples:" in told
