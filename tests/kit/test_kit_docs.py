"""The page about the kit says what the templates say."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promptkit.templates.library import Library

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "kit.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^promptkit run .*$", PAGE, re.MULTILINE)


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        [sys.executable, DOCS / "make.py", *arguments], capture_output=True, text=True, check=False
    )


def test_the_tables_are_in_step_with_the_templates() -> None:
    """`docs/make.py --check` finds nothing behind."""
    assert (make("--check").returncode, make("--check").stderr) == (0, "")


def test_a_page_that_is_behind_is_named_and_brought_up(tmp_path: Path) -> None:
    """A table that differs fails the check; writing it anew restores the page to the byte."""
    shutil.copy(DOCS / "kit.md", tmp_path)
    (tmp_path / "kit.md").write_text(
        PAGE.replace("| `brand` | Brand name |", "| `brand` | Mark |"), encoding="utf-8"
    )
    stale = make("--check", "--folder", tmp_path)
    assert stale.returncode == 1
    assert "kit.md is behind" in stale.stderr
    assert make("--folder", tmp_path).returncode == 0
    assert (tmp_path / "kit.md").read_text(encoding="utf-8") == PAGE


def test_every_template_has_its_section_its_example_and_its_table(library: Library) -> None:
    """Nothing shipped that can be run is missing from the page."""
    names = [entry.name for entry in library.entries() if not entry.is_partial]
    assert sorted(re.findall(r"^## (\w+/\w+)$", PAGE, re.MULTILINE)) == names
    assert sorted(re.findall(r"<!-- variables (\S+) -->\n\| variable", PAGE)) == names
    assert sorted(shlex.split(command)[2] for command in COMMANDS) == names


@pytest.mark.parametrize("command", COMMANDS, ids=[shlex.split(command)[2] for command in COMMANDS])
def test_an_example_fits_its_template(library: Library, command: str) -> None:
    """Every example command gives variables that its template takes, and renders."""
    _, _, name, *options = shlex.split(command)
    given: dict[str, object] = {}
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option == "-v":
            given |= assignment(value)
    template = library.load(name)
    assert template.render(template.bind(given)).messages


def assignment(text: str) -> dict[str, object]:
    """`K=V`, `K=@FILE` or `K:=JSON`, as the command reads them."""
    key, _, value = text.partition("=")
    if key.endswith(":"):
        return {key.removesuffix(":"): json.loads(value)}
    return {key: f"what stands in {value[1:]}" if value.startswith("@") else value}
