"""The simulator: a server on loopback that imitates the providers."""

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
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from promptkit.errors import UsageError
from promptkit.simulator import admin
from promptkit.types import Json

from .delivery import deliver, reset
from .endpoints import Endpoint, EndpointKind, find_endpoint
from .exchange import IncomingRequest, Simulation
from .requests import RequestRefused
from .scenario import FaultRule, Latency, Scenario, read_faults, read_latency, read_scenario

if TYPE_CHECKING:
    from asyncio import Task

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler


_OWN_PORTS = ("openai", "anthropic", "gemini")
_PATHS = {"openai": "/v1", "anthropic": "", "gemini": ""}


class Simulator:
    """Imitates OpenAI, Anthropic, Gemini and OpenAI-compatible hosts on 127.0.0.1.

    An async context manager. The same seed and requests give the same replies, in any order.

    Args:
        seed: decides every random choice; None for the scenario's, else 0.
        latency: `"realistic"`, milliseconds, or None for the scenario's, else none.
        scenario: a `Scenario`, or the path of a TOML file.
        port: the port that serves all providers by path; 0 for a free one.
        strict: validate bodies against the SDKs' own parameter types (False for benchmarks).
        clock: returns seconds since the epoch; None for the machine's.
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
        self.simulation = Simulation(read, chosen, latency if latency is not None else read.latency, strict)
        if clock is not None:
            self.simulation.clock, self.simulation.wall = clock, lambda: datetime.fromtimestamp(clock(), UTC)
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
        for name in self.simulation.scenario.down:
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
        """Return the `base_url` for a provider file: on the provider's own port if it has one."""
        listener = self._own.get(provider)
        if listener is not None:
            return f"http://{LOOPBACK}:{listener.port}{_PATHS.get(provider, '/v1')}"
        return f"{self.url}/{provider}/v1"

    def bill(self, *, lines: bool = True) -> dict[str, Json]:
        """Return the bill, as `GET /_bill` does; without its lines, as `GET /_bill?lines=0` does."""
        return self.simulation.bill.as_json(lines=lines)

    def requests(self, *, bodies: bool = False) -> list[dict[str, Json]]:
        """Return the journal, oldest first, as `GET /_requests` does."""
        return self.simulation.journal.as_json(bodies=bodies)

    def script(self, rules: Iterable[FaultRule | Mapping[str, Any] | str]) -> None:
        """Replace the script of faults; a bare name is a rule that always applies.

        Raises:
            UsageError: a rule is not valid; the script is unchanged.
        """
        docs = [{"fault": rule} if isinstance(rule, str) else rule for rule in rules]
        self.simulation.script.set(
            [rule if isinstance(rule, FaultRule) else read_faults([rule])[0] for rule in docs]
        )

    async def down(self, provider: str) -> None:
        """Make the provider's own port refuse connections.

        Raises:
            UsageError: the provider has no port of its own.
        """
        await self.listener(provider).refuse()

    async def up(self, provider: str) -> None:
        """Let the provider's own port listen again."""
        await self.listener(provider).open()

    def listener(self, provider: str) -> Listener:
        """Return the provider's own port."""
        if provider not in self._own:
            raise UsageError(
                f"{provider!r} has no port of its own, and only such a port can refuse connections",
                remedy=f"Add one to the scenario: [ports] {provider} = 0",
            )
        return self._own[provider]

    def _handler(self, own: str | None) -> Handler:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.startswith("/_"):
                return await admin.control(request, self)
            endpoint = find_endpoint(request.path, request.headers, own)
            if endpoint is None or endpoint.method != request.method:
                return admin.not_found(request)
            if endpoint.kind is EndpointKind.GENERATE:
                return await self._generate(request, endpoint)
            return admin.models(request, endpoint, self.simulation)

        return handle

    async def _generate(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        if self.simulation.before_reading(endpoint, request.path, request.headers) is not None:
            return reset(request)
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            incoming = IncomingRequest(endpoint, request.path, request.headers, b"")
            return await deliver(
                request, self.simulation.refuse(incoming, RequestRefused(f"{endpoint.family}.too_large"))
            )
        incoming = IncomingRequest(endpoint, request.path, request.headers, raw)
        return await deliver(request, self.simulation.respond(incoming))


LOOPBACK = "127.0.0.1"
MAX_BODY = 32 * 1024 * 1024
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """A port of 127.0.0.1 that can be closed, to refuse connections, and opened again."""

    def __init__(self, handler: Handler, port: int) -> None:
        self._handler = handler
        self.port = port
        self._runner: web.ServerRunner | None = None
        self._placeholder: socket.socket | None = None

    async def open(self) -> None:
        """Listen; port 0 becomes a free one."""
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
            raise UsageError(
                f"port {self.port} can't be opened: {error.strerror or error}",
                remedy="Choose another --port, or 0 for a free one.",
            ) from error
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def refuse(self) -> None:
        """Close, and keep the port without listening, so that connections are refused."""
        if self._runner is None:
            return
        await self.close()
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((LOOPBACK, self.port))

    async def close(self) -> None:
        """Stop listening and break open connections."""
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


def serve(  # noqa: PLR0913 - the options of the command
    *,
    host: str = LOOPBACK,
    port: int = 8090,
    seed: int | None = None,
    latency: str | float | None = None,
    scenario: Path | None = None,
    strict: bool = True,
    on_ready: Callable[[Simulator], None] = lambda _: None,
) -> signal.Signals:
    """Serve until SIGINT or SIGTERM, and return that signal. Blocks.

    Args:
        host: a loopback address.
        port: the port that serves all providers.
        seed: as for `Simulator`.
        latency: `realistic` or milliseconds.
        scenario: the TOML file.
        strict: as for `Simulator`.
        on_ready: called when the ports are open.

    Raises:
        UsageError: the host is not loopback, a port is in use, or the latency or scenario is not valid.
    """
    if host != "localhost" and not _is_loopback(host):
        raise UsageError(
            f"the simulator serves on loopback only, not on {host!r}", remedy=f"Use --host {LOOPBACK}."
        )
    simulator = Simulator(seed, read_latency(latency), scenario, port, strict=strict)
    return asyncio.run(_until_stopped(simulator, on_ready))


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return False


async def _until_stopped(simulator: Simulator, on_ready: Callable[[Simulator], None]) -> signal.Signals:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(received: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(received)

    for signal_ in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_, stop, signal_)
    async with simulator:
        on_ready(simulator)
        return await stopped
