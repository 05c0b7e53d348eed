"""Help, unknown commands, and what starting costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_kit import VALUES, Invoke, process

from promptkit.cli.app import SECTIONS, Command, Group, helps, load

PAGES = dict(helps())
COMMANDS = [
    (name, entry)
    for section in SECTIONS.values()
    for name, group in section.items()
    for name, entry in (group.commands.items() if isinstance(group, Group) else [(name, group)])
]
HEAVY = {
    "aiohttp", "alembic", "anthropic", "genai_prices", "google.genai", "httpx", "httpx2", "openai", "rich",
    "sqlalchemy", "sqlmodel", "tenacity", "xllamacpp",
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_every_command_has_an_example_of_itself(name: str) -> None:
    """Each help ends with an example that names its command."""
    examples = PAGES[name].partition("Examples:")[2]
    assert name in examples


@pytest.mark.parametrize(("name", "entry"), COMMANDS, ids=[entry.function for _, entry in COMMANDS])
def test_the_list_says_what_the_command_says_of_itself(name: str, entry: Command) -> None:
    """The line in the list of commands is how the command's own help begins."""
    command: Any = load(name, entry)
    assert command.help.startswith(entry.help.removesuffix("."))


def test_the_commands_are_those_of_the_page() -> None:
    """docs/commands.md has a section for every command, with its help as it is."""
    page = (Path(__file__).parents[2] / "docs/commands.md").read_text("utf-8")
    for name, text in PAGES.items():
        assert f"## {name}\n\n```text\n{text}\n```" in page, name


def test_alone_it_prints_its_help(invoke: Invoke) -> None:
    """`promptkit` without a command prints the help, and so does a noun alone."""
    alone = invoke()
    assert (alone.code, alone.out) == (0, invoke("--help").out)
    for section in SECTIONS:
        assert f"\n{section}:\n" in alone.out
    assert invoke("db").out == invoke("db", "--help").out


def test_an_unknown_command_is_answered_with_the_closest(invoke: Invoke) -> None:
    """A typing error is exit 2, with the command that was meant."""
    for given, meant in ((["rendr"], "'render'"), (["templates", "lst"], "'list'")):
        ran = invoke(*given)
        assert (ran.code, ran.out) == (2, "")
        assert f"Did you mean {meant}?" in ran.err


def test_the_version_is_the_distributions(invoke: Invoke) -> None:
    """--version prints one line."""
    from importlib.metadata import version

    assert invoke("--version").out == f"promptkit {version('promptkit-router')}\n"


def modules_of(arguments: list[str], folder: Path) -> set[str]:
    """The modules that a command has imported when it is done."""
    script = (
        "import sys, json; from promptkit.cli.main import execute; code = execute(sys.argv[1:]); "
        "sys.stderr.write(json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    code, modules = json.loads(done.stderr)
    assert code == 0
    return set(modules)


def test_render_imports_nothing_that_sends_or_writes(tmp_path: Path, machine: Path) -> None:
    """`render` imports no SDK, no SQL, no HTTP, no prices and nothing that draws."""
    del machine
    assert not HEAVY & modules_of(["render", "ugc/hooks", *VALUES], tmp_path)


def test_help_imports_no_room_of_promptkit(tmp_path: Path) -> None:
    """`--help` costs what typer costs: no room is imported, nor pydantic."""
    modules = modules_of(["--help"], tmp_path)
    assert not (HEAVY | {"pydantic", "jinja2", "promptkit.types"}) & modules
    assert {name for name in modules if name.startswith("promptkit.") and ".cli" not in name} == set()


def test_completion_knows_the_commands(tmp_path: Path) -> None:
    """The shell's completion offers commands by their beginning."""
    env = {
        "PATH": "/usr/bin:/bin",
        "_PROMPTKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "promptkit temp",
        "COMP_CWORD": "1",
    }
    assert process(cwd=tmp_path, env=env).out.split() == ["templates"]
