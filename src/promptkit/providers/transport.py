"""One client per provider: a prebuilt request goes out, an answer comes back as a value.

The official SDK supplies the client, the address, authentication and default headers; its
retries are off. Opening a transport imports its SDK and no other; importing this imports none.
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
from typing import Final, Protocol, TypeAlias, TypeVar

from promptkit.errors import ConfigError
from promptkit.types import Provider, TransportFailure, WireReply, WireRequest

GROUP: Final = "promptkit.transports"
"""The entry point group by which other packages bring drivers."""


DRIVERS: Final = {
    "openai": "promptkit.providers.sdks:open_openai",
    "anthropic": "promptkit.providers.sdks:open_anthropic",
    "google-genai": "promptkit.providers.sdks:open_genai",
    "google-generativeai": "promptkit.providers.generativeai:open_generativeai",
    "xllamacpp": "promptkit.providers.local:open_local",
}
"""Where the driver of each `sdk` word stands, as an entry point says it."""


_EXTRAS: Final = {"google-generativeai": "google-generativeai", "xllamacpp": "local"}


def open_transport(provider: Provider, key: str | None) -> Transport:
    """Open the client of a provider.

    Args:
        provider: its `sdk` names the driver.
        key: None where the provider needs none; the environment is never asked instead.

    Raises:
        ConfigError: there is no such driver, its package is not installed, the key can't be
            sent, or the embedded model is not there.
    """
    return _driver(provider)(provider, key)


def _driver(provider: Provider) -> Callable[[Provider, str | None], Transport]:
    sdk = provider.sdk
    try:
        if sdk in DRIVERS:
            module, _, name = DRIVERS[sdk].partition(":")
            return getattr(import_module(module), name)
        found = entry_points(group=GROUP, name=sdk)
        if found:
            return next(iter(found)).load()
    except ModuleNotFoundError as error:
        extra = f"[{_EXTRAS[sdk]}]" if sdk in _EXTRAS else ""
        what = f"provider {provider.name} needs the package {error.name}, which is not installed"
        raise ConfigError(what, remedy=f"pip install 'promptkit-router{extra}'") from error
    what = f"provider {provider.name}: there is no driver for sdk = {sdk!r}"
    raise ConfigError(what, remedy=f"one of: {', '.join(DRIVERS)}")


MAX_BODY: Final = 64 * 2**20
"""The largest answer that is read, in bytes after decompression."""


class StreamBroken(Exception):
    """A stream that broke while it was read; `broken` says how. What had arrived stays good."""

    def __init__(self, broken: TransportFailure) -> None:
        super().__init__(broken.detail)
        self.broken = broken


@dataclass(frozen=True, slots=True)
class WireStream:
    """An answer that is arriving (status 2xx). Header names are lower case.

    `chunks` yields bytes as they come, cut anywhere; a break is raised as `StreamBroken`.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


StreamStart: TypeAlias = WireReply | WireStream | TransportFailure
"""How a stream can begin: refused whole (an error status), flowing, or broken at once."""


class Transport(Protocol):
    """One provider's client. Use it from one event loop, and close it there."""

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole answer.

        Args:
            request: path below the provider's address, and the JSON body.
            timeout_s: what the exchange may take from first to last byte, connecting included.

        Returns:
            The answer, whatever its status, or how the exchange broke. Nothing is raised for
            what the network, the SDK or the server does; only a cancellation passes through.
        """
        ...

    def stream(self, request: WireRequest, timeout_s: float) -> AbstractAsyncContextManager[StreamStart]:
        """Send a request and read the answer as it comes; leaving the block closes it."""
        ...

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """The ids of the models that this key may use: a free, authenticated question."""
        ...

    async def aclose(self) -> None:
        """Close the connections. Closing twice is allowed."""
        ...


_URL: Final = re.compile(r"(?P<scheme>\w+://)(?:[^\s/@'\"]*@)?(?P<host>[^\s/?#'\")]+)[^\s'\")]*")


_PATH: Final = re.compile(r"with url: \S+ ")  # as urllib3 says it


_LONGEST: Final = 300


def explain(error: BaseException, *, key: str | None) -> str:
    """Name an exception in one line of at most 300 characters.

    The key is blotted out, and of a URL only scheme and host stay: a path, a query or a user
    part may hold a secret.
    """
    told = " ".join(str(error).split())
    if key:
        told = told.replace(key, "[key]")
    told = _PATH.sub("", _URL.sub(r"\g<scheme>\g<host>", told))
    name = type(error).__name__
    return f"{name}: {told}"[:_LONGEST] if told else name


def broken(error: BaseException, *, sent: bool, key: str | None) -> TransportFailure:
    """The break that an exception stands for."""
    return TransportFailure(sent=sent, detail=explain(error, key=key))


def timed_out(timeout_s: float, *, sent: bool) -> TransportFailure:
    """The break of an exchange whose time ran out."""
    what = "no whole answer" if sent else "no connection"
    return TransportFailure(sent=sent, detail=f"{what} within {timeout_s:g} s")


T = TypeVar("T")


async def from_thread(work: Callable[[Callable[[T], bool]], None], *, daemon: bool) -> AsyncGenerator[T]:
    """Run `work` in a thread of its own and yield what it emits.

    Args:
        work: called with `emit`, which returns True when nobody listens any more: then `work`
            should end. It is also told so when the process is ending.
        daemon: whether a process may end while the thread runs.

    Raises:
        Exception: whatever `work` raises.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue()
    stopped = threading.Event()

    def put(item: tuple[T] | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody listens
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
