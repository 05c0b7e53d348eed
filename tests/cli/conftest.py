"""A simulator for the whole session, and a fresh project in the working folder of each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import Invoke, invoker, make_project, quiet_machine, simulating

from promptkit.simulator.server import Simulator


@pytest.fixture(scope="session")
def one_simulator() -> Iterator[Simulator]:
    with simulating(seed=7) as simulator:
        yield simulator


@pytest.fixture
def sim(one_simulator: Simulator) -> Iterator[Simulator]:
    """The simulator, without faults."""
    yield one_simulator
    one_simulator.script([])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of nobody; its home."""
    quiet_machine(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def project(
    tmp_path: Path, machine: Path, sim: Simulator, blank_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project at the simulator, which is the working folder."""
    del machine
    folder = make_project(tmp_path / "project", sim.url)
    shutil.copy(blank_database, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    return invoker(capsys)
