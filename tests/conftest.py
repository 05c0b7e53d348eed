"""What the rooms of use share in their tests: a studio with a project, a simulator and a ledger."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import virtual_time
from hypothesis import HealthCheck, settings
from studio import BIG, Studio

from promptkit.simulator.scenario import Scenario
from promptkit.simulator.server import Simulator

# No example is too slow, and none took too long to draw: that is a matter of the machine.
settings.register_profile("promptkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("promptkit")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{virtual_time.MARK}: time passes only while everything waits")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started with `&` or by nohup: the processes of the tests would not hear an interrupt either.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each test on the loop that its mark asks for."""
    del config
    return virtual_time.loop_factories(item)


@pytest.fixture(scope="session", autouse=True)
def _watched_ledger() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    with virtual_time.watching_the_ledger():
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(  # pyright: ignore[reportUnusedFunction] - pytest uses it
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """A cache that no other promptkit of this user has written to; of theirs it has the embedded model alone."""
    from promptkit.providers.local_weights import weights_path

    weights = weights_path(os.environ, Path.home())
    with pytest.MonkeyPatch.context() as patch:
        if weights is not None:  # else they are brought into the user's own, where they stay
            cache = tmp_path_factory.mktemp("cache")
            (cache / "promptkit").mkdir(mode=0o700)
            (cache / "promptkit" / weights.name).symlink_to(weights)
            patch.setenv("XDG_CACHE_HOME", str(cache))
        yield


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the newest schema: copied, it saves each test the migrations."""
    from promptkit.ledger.ledger import Ledger

    path = tmp_path_factory.mktemp("blank") / "promptkit.db"
    Ledger.open(path).close()
    return path


@pytest.fixture
async def studio(tmp_path: Path, blank_database: Path) -> AsyncIterator[Studio]:
    """A project of its own whose providers are a simulator on loopback."""
    async with Simulator(seed=7, scenario=Scenario(models=(BIG,)), clock=virtual_time.clock()) as sim:
        yield Studio.build(tmp_path, sim, blank_database)
