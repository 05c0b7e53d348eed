"""Transports, one per provider: they send a prebuilt request and return the reply as a value.

The official SDK supplies the client, the address, authentication and default headers; its
retries are off. Opening a transport imports its SDK and no other; importing this module imports none.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, TypeAlias, TypeVar

from promptkit.errors import ConfigError
from promptkit.types import Provider, TransportFailure, WireReply, WireRequest

GROUP = "promptkit.transports"
"""The entry point group through which other packages add drivers."""

DRIVERS = {
    "openai": "promptkit.providers.openai:open_openai",
    "anthropic": "promptkit.providers.anthropic:open_anthropic",
    "google-genai": "promptkit.providers.gemini:open_genai",
    "google-generativeai": "promptkit.providers.generativeai:open_generativeai",
    "xllamacpp": "promptkit.providers.local:open_local",
}
"""The driver of each `sdk`, written as an entry point."""

_EXTRAS = {"google-generativeai": "google-generativeai", "xllamacpp": "local"}


def open_transport(provider: Provider, key: str | None) -> Transport:
    """Open the client of a provider.

    Args:
        provider: its `sdk` names the driver.
        key: None if the provider needs none; the environment is never used instead.

    Raises:
        ConfigError: there is no such driver, its package is not installed, the key can't be
            sent, or the embedded model is missing.
    """
    return _driver(provider)(provider, key)


def _driver(provider: Provider) -> Callable[[Provider, str | None], Transport]:
    sdk = provider.sdk
    try:
        if sdk in DRIVERS:
            module, _, name = DRIVERS[sdk].partition(":")
            return getattr(import_module(module), name)
        for entry_point in entry_points(group=GROUP, name=sdk):
            return entry_point.load()
    except ModuleNotFoundError as error:
        extra = f"[{_EXTRAS[sdk]}]" if sdk in _EXTRAS else ""
        raise ConfigError(
            f"provider {provider.name} needs the package {error.name}, which is not installed",
            remedy=f"pip install 'promptkit-router{extra}'",
        ) from error
    raise ConfigError(
        f"provider {provider.name}: there is no driver for sdk = {sdk!r}",
        remedy=f"one of: {', '.join(DRIVERS)}",
    )


MAX_BODY = 64 * 2**20
"""The largest reply that is read, in bytes after decompression."""


class StreamBroken(Exception):
    """A stream that broke while it was read; `failure` is the reason. The chunks before stay valid."""

    def __init__(self, failure: TransportFailure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class WireStream:
    """A response that is arriving (status 2xx). Header names are lower case.

    `chunks` yields bytes as they arrive, cut anywhere, and raises `StreamBroken` if the stream breaks.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


StreamStart: TypeAlias = WireReply | WireStream | TransportFailure
"""The start of a stream: a whole reply (an error status), a stream, or a failure."""


class Transport(Protocol):
    """A provider's client. Use it from one event loop, and close it there."""

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole reply.

        Args:
            request: path below the provider's address, and the JSON body.
            timeout_s: time limit of the exchange, from the connection to the last byte.

        Returns:
            The reply, whatever its status, or the failure. Errors of the network, the SDK or the
            server are never raised; only a cancellation is.
        """
        ...

    def stream(self, request: WireRequest, timeout_s: float) -> AbstractAsyncContextManager[StreamStart]:
        """Send a request and read the response as it arrives; leaving the block closes it."""
        ...

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """Ask for the ids of the models that the key may use: free, and authenticated."""
        ...

    async def aclose(self) -> None:
        """Close the connections. Closing twice is allowed."""
        ...


_URL = re.compile(r"(?P<scheme>\w+://)(?:[^\s/@'\"]*@)?(?P<host>[^\s/?#'\")]+)[^\s'\")]*")
_PATH = re.compile(r"with url: \S+ ")  # as in urllib3's messages
_LONGEST = 300


def explain(error: BaseException, *, key: str | None) -> str:
    """Describe an exception in one line of at most 300 characters.

    The key is removed, and URLs keep only scheme and host: a path, a query or a user part may
    contain a secret.
    """
    message = " ".join(str(error).split())
    if key:
        message = message.replace(key, "[key]")
    message = _PATH.sub("", _URL.sub(r"\g<scheme>\g<host>", message))
    name = type(error).__name__
    return f"{name}: {message}"[:_LONGEST] if message else name


def transport_failure(error: BaseException, *, sent: bool, key: str | None) -> TransportFailure:
    """Return an exception as a value."""
    return TransportFailure(sent=sent, detail=explain(error, key=key))


def timed_out(timeout_s: float, *, sent: bool) -> TransportFailure:
    """Return the failure of an exchange whose timeout passed."""
    missing = "no complete reply" if sent else "no connection"
    return TransportFailure(sent=sent, detail=f"{missing} within {timeout_s:g} s")


T = TypeVar("T")


async def from_thread(work: Callable[[Callable[[T], bool]], None], *, daemon: bool) -> AsyncGenerator[T]:
    """Run `work` in a thread of its own and yield what it emits.

    Args:
        work: called with `emit`, which returns True when the reader has left or the process is ending:
            then `work` should end.
        daemon: whether a process may end while the thread runs.

    Raises:
        Exception: whatever `work` raises.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue()
    stopped = threading.Event()

    def put(item: tuple[T] | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has closed: there is no reader
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def emit(item: T) -> bool:
        put((item,))
        return stopped.is_set() or not threading.main_thread().is_alive()

    def run() -> None:
        try:
            work(emit)
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            put(error)
        else:
            put(None)

    threading.Thread(target=run, name="promptkit-call", daemon=daemon).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item[0]
    finally:
        stopped.set()
