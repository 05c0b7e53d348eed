"""The README is true: its commands run as they are written, in order, in a clean environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_kit import ROOT, Installed

from promptkit.errors import ExitCode

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DONE_ELSEWHERE = {
    "python3 .ci/start.py demo": "in a test of its own, below",
    "python3 .ci/start.py test": "this very test is part of it",
    "python3 -m venv .venv && . .venv/bin/activate && pip install '.[local]'": "the fixture `installed`",
}


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


class Shell:
    """A user's shell: a folder that `cd` changes, and three providers that are a simulator."""

    def __init__(self, installed: Installed, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self._installed = installed
        self._env = env

    def run(self, line: str) -> str:
        """Run a line as it is written; it must succeed."""
        script = f"set -e\n{line}\npwd >&3"
        where = self.folder / ".where"
        done = subprocess.run(
            ["bash", "-c", f"exec 3>'{where}'\n{script}"],
            cwd=self.folder,
            env={**self._installed.environ, **self._env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        self.folder = Path(where.read_text(encoding="utf-8").strip())
        return done.stdout


@pytest.fixture(scope="module")
def shell(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One shell for the whole page: its commands stand on each other."""
    with installed.simulator() as env:
        yield Shell(installed, tmp_path_factory.mktemp("reader"), env)


def test_what_is_done_elsewhere_is_still_in_the_page() -> None:
    """An exception that no command needs any more is gone."""
    assert set(DONE_ELSEWHERE) <= set(COMMANDS)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in DONE_ELSEWHERE])
def test_a_command_runs_as_it_is_written(shell: Shell, line: str) -> None:
    """Every command of the page succeeds, after those before it."""
    shell.run(line)


def test_show_tells_a_call_of_the_page(shell: Shell) -> None:
    """`promptkit show ID`, with an ID that `log` printed."""
    assert "`promptkit show ID`" in README
    first = json.loads(shell.run("promptkit log --json -n 1"))[0]
    assert first["id"] in shell.run(f"promptkit show {first['id']}")


def test_the_python_runs_as_it_is_written(shell: Shell) -> None:
    """The library's example makes the texts that it prints."""
    (program,) = blocks("python")
    (shell.folder / "example.py").write_text(program, encoding="utf-8")
    printed = shell.run("python example.py")
    assert printed.count(" ok ") == 5


def test_the_configuration_can_stand(shell: Shell) -> None:
    """The excerpt of promptkit.toml is one that promptkit takes."""
    (excerpt,) = blocks("toml")
    folder = shell.folder / "excerpt"
    folder.mkdir()
    (folder / "promptkit.toml").write_text(excerpt, encoding="utf-8")
    listed = shell.run("cd excerpt && promptkit providers list --json && cd ..")
    for target in tomllib.loads(excerpt)["routes"]["default"]["targets"]:
        assert target.partition("/")[2] in listed


def test_the_skeleton_renders(shell: Shell) -> None:
    """The template on the page is whole: it renders as it stands."""
    (source,) = blocks("jinja")
    folder = shell.folder / "templates" / "page" / "hook"
    folder.mkdir(parents=True)
    (folder / "draft.jinja").write_text(source, encoding="utf-8")
    assert "Brand: Barly. Angle: proof." in shell.run("promptkit render page/hook@draft -v brand=Barly")


def test_every_exit_code_is_told() -> None:
    """Each code that the command can exit with stands in the list."""
    (told,) = re.findall(r"^## Exit codes\n\n(.*)$", README, re.MULTILINE)
    assert {int(number) for number in re.findall(r"\b(\d+) (?=[a-z])", told)} | {130} == {
        int(code) for code in ExitCode
    }


def test_every_package_is_described() -> None:
    """The table of docs/architecture.md names each package, and nothing else."""
    packages = {
        path.stem
        for path in (ROOT / "src" / "promptkit").iterdir()
        if not path.name.startswith("__") and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page[page.index("## Packages") : page.index("## The path of a call")]
    assert packages == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_links_lead_somewhere() -> None:
    """Every file that the page links to is there."""
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link


def test_the_demo_of_the_first_minute_runs(tmp_path: Path) -> None:
    """The first command of the page: five rows become texts on the embedded model, in the user's own ledger."""
    command = next(line for line in COMMANDS if "demo" in line).split()
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (tmp_path / "promptkit" / "promptkit.db").exists()
