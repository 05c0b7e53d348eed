"""The simulator as a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from promptkit.errors import UsageError
from promptkit.simulator import pages, routes
from promptkit.types import Json

from .delivery import deliver, reset
from .exchange import Visit, World
from .requests import Refused
from .routes import Action, Place
from .scenario import FaultRule, Latency, Scenario, read_faults, read_latency, read_scenario

if TYPE_CHECKING:
    from asyncio import Task

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler


_OWN_PORTS: Final = ("openai", "anthropic", "gemini")


_BEHIND: Final = {"openai": "/v1", "anthropic": "", "gemini": ""}


class Simulator:
    """Plays OpenAI, Anthropic, Gemini and OpenAI-compatible hosts on 127.0.0.1.

    An async context manager. The same seed and requests give the same replies, whatever the
    order in which they arrive.

    Args:
        seed: what every choice is drawn from; None: the scenario's, else 0.
        latency: `"realistic"`, milliseconds, or None for the scenario's, else none.
        scenario: a `Scenario`, or the path of a TOML file.
        port: the port that serves all providers by path; 0 takes a free one.
        strict: validate bodies against the SDKs' own parameter types (False for benchmarks).
        clock: seconds since the epoch; None: the machine's.
    """

    def __init__(
        self,
        seed: int | None = None,
        latency: Latency = None,
        scenario: Scenario | Path | str | None = None,
        port: int = 0,
        *,
        strict: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        read = (
            scenario
            if isinstance(scenario, Scenario)
            else Scenario()
            if scenario is None
            else read_scenario(Path(scenario))
        )
        chosen = seed if seed is not None else read.seed or 0
        self.world = World(read, chosen, latency if latency is not None else read.latency, strict)
        if clock is not None:
            self.world.clock, self.world.wall = clock, lambda: datetime.fromtimestamp(clock(), UTC)
        self._main = Listener(self._handler(None), port)
        ports = {**dict.fromkeys((*_OWN_PORTS, *read.down), 0), **read.ports}
        self._own = {name: Listener(self._handler(name), number) for name, number in ports.items()}

    async def __aenter__(self) -> Self:
        try:
            for listener in (self._main, *self._own.values()):
                await listener.open()
        except UsageError:
            await self._close()
            raise
        for name in self.world.scenario.down:
            await self.down(name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for listener in (self._main, *self._own.values()):
            await listener.close()

    @property
    def url(self) -> str:
        """The address that serves all providers: `{url}/v1`, `{url}`, `{url}/groq/v1`..."""
        return f"http://{LOOPBACK}:{self._main.port}"

    def base_url(self, provider: str) -> str:
        """What a provider file would call its `base_url`: on its own port where it has one."""
        listener = self._own.get(provider)
        if listener is not None:
            return f"http://{LOOPBACK}:{listener.port}{_BEHIND.get(provider, '/v1')}"
        return f"{self.url}/{provider}/v1"

    def bill(self, *, lines: bool = True) -> dict[str, Json]:
        """The bill, as `GET /_bill` tells it; without its lines, as `GET /_bill?lines=0` does."""
        return self.world.bill.as_json(lines=lines)

    def requests(self, *, bodies: bool = False) -> list[dict[str, Json]]:
        """The journal, oldest first, as `GET /_requests` tells it."""
        return self.world.journal.as_json(bodies=bodies)

    def script(self, rules: Iterable[FaultRule | Mapping[str, Any] | str]) -> None:
        """Replace the script of faults; a bare name is a rule that always strikes.

        Raises:
            UsageError: a rule is none; nothing is changed then.
        """
        docs = [{"fault": rule} if isinstance(rule, str) else rule for rule in rules]
        self.world.script.set(
            [rule if isinstance(rule, FaultRule) else read_faults([rule])[0] for rule in docs]
        )

    async def down(self, provider: str) -> None:
        """Make the provider's own port refuse connections.

        Raises:
            UsageError: it has no port of its own.
        """
        await self.listener(provider).refuse()

    async def up(self, provider: str) -> None:
        """Let the provider's own port listen again."""
        await self.listener(provider).open()

    def listener(self, provider: str) -> Listener:
        """The provider's own port."""
        if provider not in self._own:
            what = f"{provider!r} has no port of its own; only such a one can refuse"
            raise UsageError(what, remedy=f"give it one in the scenario: [ports] {provider} = 0")
        return self._own[provider]

    def _handler(self, own: str | None) -> Handler:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.startswith("/_"):
                return await pages.own(request, self)
            place = routes.find(request.path, request.headers, own)
            if place is None or place.method != request.method:
                return pages.not_served(request)
            if place.action is Action.GENERATE:
                return await self._generate(request, place)
            return pages.models(request, place, self.world)

        return handle

    async def _generate(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        if self.world.before_reading(place, request.path, request.headers) is not None:
            return reset(request)
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            visit = Visit(place, request.path, request.headers, b"")
            return await deliver(request, self.world.refuse(visit, Refused(f"{place.family}.too_large")))
        visit = Visit(place, request.path, request.headers, raw)
        return await deliver(request, self.world.answer(visit))


LOOPBACK: Final = "127.0.0.1"


MAX_BODY: Final = 32 * 1024 * 1024


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """A port of 127.0.0.1 that can be closed, so that it refuses, and opened again."""

    def __init__(self, handler: Handler, port: int) -> None:
        self._handler = handler
        self.port = port
        self._runner: web.ServerRunner | None = None
        self._placeholder: socket.socket | None = None

    async def open(self) -> None:
        """Listen; port 0 becomes whichever is free."""
        if self._runner is not None:
            return
        self._release()
        server = web.Server(
            self._handler, request_factory=_request, handler_cancellation=True, access_log=None
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, self.port, backlog=1024).start()
        except OSError as error:
            await runner.cleanup()
            what = f"port {self.port} can't be opened: {error.strerror or error}"
            raise UsageError(what, remedy="choose another --port, or 0 for a free one") from error
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def refuse(self) -> None:
        """Close, and keep the port without listening: connections are refused."""
        if self._runner is None:
            return
        await self.close()
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((LOOPBACK, self.port))

    async def close(self) -> None:
        """Stop listening and break what is open."""
        self._release()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _release(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


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
