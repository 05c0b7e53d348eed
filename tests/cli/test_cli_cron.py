"""The README's crontab line and systemd units do what they say, as they are written, with the environment they get."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_kit import COMMAND, make_project
from waiting import HANGS_S

from promptkit.simulator.server import Simulator

STUDIO = "promptkit/studio"
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, sim: Simulator) -> Path:
    """A user's home with the clone as the README installs it, and the project `studio` in it."""
    make_project(tmp_path / STUDIO, sim.url)
    install(tmp_path)
    return tmp_path


def install(home: Path) -> None:
    folder = home / "promptkit/.venv/bin"
    folder.mkdir(parents=True)
    (folder / "promptkit").symlink_to(COMMAND)


def run(command: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(  # noqa: S603 - what the page says
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANGS_S, check=False
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_crontab_line_runs_under_crons_environment(home: Path) -> None:
    """Five fields of time, then a line for /bin/sh with cron's PATH; it says nothing, and the texts are there."""
    (line,) = blocks("cron")
    *when, command = line.strip().split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*,/-]+", field) for field in when)
    assert "%" not in command, "cron ends a command there"
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "studio"}
    assert run(["/bin/sh", "-c", command], home, env) == (0, "", "")
    assert (home / STUDIO / "hooks.csv").read_text("utf-8").count(",ok,") == 3


def test_the_systemd_units_run_as_they_are_written(home: Path) -> None:
    """The service's command, in its folder and with systemd's environment; the timer's calendar can be read."""
    service, timer = (unit(text) for text in blocks("ini"))
    assert service.sections() == ["Unit", "Service"]
    assert timer.sections() == ["Unit", "Timer", "Install"]
    assert service["Service"]["Type"] == "oneshot"
    assert timer["Install"]["WantedBy"] == "timers.target"
    command = shlex.split(service["Service"]["ExecStart"].replace("%h", str(home)))
    folder = Path(service["Service"]["WorkingDirectory"].replace("%h", str(home)))
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    assert run(command, folder, env) == (0, "", "")
    assert (folder / "hooks.csv").read_text("utf-8").count(",ok,") == 3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd isn't here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """systemd's own parser has nothing to say of the unit files, and knows when the timer is due."""
    service, timer = blocks("ini")
    analyze = f"{shutil.which('systemd-analyze')}"
    calendar = unit(timer)["Timer"]["OnCalendar"]
    code, out, _ = run([analyze, "calendar", calendar], tmp_path, {"PATH": "/usr/bin:/bin"})
    assert (code, "22:00:00" in out) == (0, True)
    install(tmp_path)
    (tmp_path / "night.service").write_text(service.replace("%h", str(tmp_path)), encoding="utf-8")
    (tmp_path / "night.timer").write_text(timer, encoding="utf-8")
    _, out, said = run(
        [analyze, "verify", "night.service", "night.timer"], tmp_path, {"PATH": "/usr/bin:/bin"}
    )
    assert not [line for line in (out + said).splitlines() if "night." in line], said


def unit(text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, default_section="")
    parsed.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - keys as they are written
    parsed.read_string(text)
    return parsed
