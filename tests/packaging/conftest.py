"""The distribution, built once from what git tracks, and installed once into a clean environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_kit import JUNK, ROOT, Built, Installed

from promptkit.providers.local_weights import fetch, weights_path


@pytest.fixture(scope="session")
def tracked() -> tuple[str, ...]:
    """The files that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a git repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return tuple(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="session")
def built(tracked: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the source archive, built where the usual litter lies about."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("made")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for name in JUNK:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("litter", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(made)], cwd=source, check=True)
    return Built(next(made.glob("*.whl")), next(made.glob("*.tar.gz")))


@pytest.fixture(scope="session")
def installed(
    built: Built, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Installed]:
    """A clean environment with the wheel and its extra `local`, a home of its own, and the weights."""
    folder, home = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("home")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    constraints = ROOT / ".ci" / "constraints.txt"
    subprocess.run([*pip, "--constraint", constraints, f"{built.wheel}[local]"], check=True)
    cache = home / ".cache" / "promptkit"
    cache.mkdir(parents=True)
    weights = _weights(pytestconfig)
    (cache / weights.name).symlink_to(weights)
    yield Installed(folder, home)
    shutil.rmtree(folder)


def _weights(config: pytest.Config) -> Path:
    """Those of the user who runs the tests, else brought once into pytest's own cache."""
    found = weights_path(os.environ, Path.home())
    if found is not None:
        return found
    kept = config.cache.mkdir("local_model")
    return fetch({**os.environ, "XDG_CACHE_HOME": str(kept)}, Path.home())
