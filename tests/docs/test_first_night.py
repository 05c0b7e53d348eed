"""docs/first-night.md works: its commands run as written, in order, against the simulator."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "first-night.md").read_text("utf-8")
COMMAND = Path(sys.executable).with_name("promptkit")
PORT = "http://127.0.0.1:8090"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """The address of a simulator in a process of its own."""
    command = [COMMAND, "simulate", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        assert process.stdout is not None
        try:
            yield json.loads("".join(takewhile(lambda line: line != "}\n", process.stdout)) + "}")["url"]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def folder(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder, after step 2: a project whose providers are the simulator."""
    home = tmp_path_factory.mktemp("reader")
    run(LINES[0], home)
    studio = home / "studio"
    config = studio / "promptkit.toml"
    text = re.sub('^timezone = "[^"]*"', 'timezone = "UTC"', config.read_text("utf-8"), flags=re.MULTILINE)
    text = text.replace('day_starts_at = "12:00"', f'day_starts_at = "{clock(-1)}"')
    tables = next(text for text in blocks("toml") if PORT in text)
    config.write_text(text + "\n" + tables.replace(PORT, simulator), encoding="utf-8")
    with (studio / ".env").open("a", encoding="utf-8") as file:
        file.write("OPENAI_API_KEY=any\nANTHROPIC_API_KEY=any\nGEMINI_API_KEY=any\n")
    return studio


def clock(hours: int) -> str:
    """Return the time of day in so many hours, far from where a budget day or a deadline could end the test."""
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%H:%M")


def run(line: str, folder: Path) -> str:
    """Run a line in a shell, with a deadline that is far away; it must succeed. Return its standard output."""
    line = line.replace("--deadline 06:30", f"--deadline {clock(12)}")
    env = {
        **{name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))},
        "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    done = subprocess.run(  # noqa: S602 - a line of our own page
        line,
        shell=True,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("line", LINES[1:])
def test_a_command_runs_as_written(folder: Path, line: str) -> None:
    """Every command of the page succeeds, after those before it."""
    run(line, folder)


def test_the_crontab_line_is_the_batch_of_the_page(folder: Path) -> None:
    """cron runs the command that the reader has tried, quietly and with a monitor."""
    (line,) = blocks("cron")
    batch = next(line for line in LINES if line.startswith("promptkit batch"))
    assert "%" not in line, "cron would end the command there"
    command = line.partition("../.venv/bin/")[2].partition(" --quiet")[0]
    assert command == batch.partition(" --summary")[0]
    assert run(f"{command} --quiet", folder) == ""


def test_the_failed_rows_can_be_corrected(folder: Path) -> None:
    """A row that does not fit is in failed.csv; corrected, it is an input itself."""
    (folder / "long.csv").write_text(f"brand,product,audience\nSol,{'x' * 700},surfers\n", encoding="utf-8")
    batch = next(line for line in LINES if line.startswith("promptkit batch"))
    failing = batch.replace("rows.csv", "long.csv").replace("night-{date}", "long")
    run(f"{failing} || test $? = 1", folder)
    text = (folder / "failed.csv").read_text("utf-8")
    (folder / "failed.csv").write_text(text.replace("x" * 700, "sunscreen"), encoding="utf-8")
    console = "\n".join(blocks("console"))
    (correct,) = re.findall(r"^\$ (promptkit batch .*)$", console, re.MULTILINE)
    run(correct, folder)
    assert "Sol,sunscreen,surfers," in (folder / "hooks-corrected.csv").read_text("utf-8")
