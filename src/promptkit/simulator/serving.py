"""The command's main loop: serve until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from promptkit.errors import UsageError

from .listener import LOOPBACK
from .scenario import read_latency
from .server import Simulator


def serve(  # noqa: PLR0913  the options of the command
    *,
    host: str = LOOPBACK,
    port: int = 8090,
    seed: int | None = None,
    latency: str | float | None = None,
    scenario: Path | None = None,
    strict: bool = True,
    on_ready: Callable[[Simulator], None] = lambda _: None,
) -> signal.Signals:
    """Serve until SIGINT or SIGTERM, and return which one it was. Blocks.

    Args:
        host: must be loopback.
        port: the port that serves all providers.
        seed: as for `Simulator`.
        latency: `realistic` or milliseconds.
        scenario: the TOML file.
        strict: as for `Simulator`.
        on_ready: called once when the ports are open.

    Raises:
        UsageError: host not loopback, port taken, latency or scenario not understood.
    """
    if host != "localhost" and not _is_loopback(host):
        what = f"the simulator serves on loopback only, not on {host!r}"
        raise UsageError(what, remedy=f"use --host {LOOPBACK}")
    simulator = Simulator(seed, read_latency(latency), scenario, port, strict=strict)
    return asyncio.run(_until_stopped(simulator, on_ready))


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return False


async def _until_stopped(simulator: Simulator, on_ready: Callable[[Simulator], None]) -> signal.Signals:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(by: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(by)

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop, each)
    async with simulator:
        on_ready(simulator)
        return await stopped
