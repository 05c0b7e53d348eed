"""The embedded model: one server a process, called without a network in between.

xllamacpp's server also listens on a loopback port, which can't be turned off; a random key
that nobody is told closes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from promptkit.errors import ConfigError
from promptkit.types import JsonObject, Provider, TransportFailure, WireReply, WireRequest

from .local_weights import LocalModelError, weights_path
from .transport import StreamBroken, StreamStart, WireStream, broken, from_thread, timed_out

MODEL: Final = "smollm2-135m"


CONTEXT: Final = 2048
"""Tokens of context that each of the parallel calls has."""


PARALLEL: Final = 2


_SILENT: Final = -1


class LocalServer:
    """A loaded model. It loads on the first call (0.4 s) and is shared by all who ask for it."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._server: Any = None

    def chat(self, body: bytes, emit: Callable[[str], bool]) -> None:
        """Answer a chat request. Blocks: call it in a thread.

        Args:
            body: a Chat Completions request that asks for a stream.
            emit: called with each chunk, a JSON text; it returns True to stop.

        Raises:
            ValueError, RuntimeError: the request is not one that llama.cpp understands.
            ConfigError: the weights can't be loaded.
        """
        self._loaded().handle_chat_completions(body.decode(), emit)

    def _loaded(self) -> Any:
        with self._lock:
            if self._server is None:
                self._server = _load(self._weights)
            return self._server


def _load(weights: Path) -> Any:
    module: Any = import_module("xllamacpp")  # it has no types
    params = module.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {MODEL}
    params.n_ctx = CONTEXT * PARALLEL
    params.n_parallel = PARALLEL
    # Half of the cores: the threads wait for each other at every step, and where one of them has to
    # share its core with another program, all stand still (measured: 4 to 40 times slower).
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = max(1, (os.cpu_count() or 2) // 2)
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = False
    params.ui = False
    params.verbosity = _SILENT
    try:
        return module.Server(params)
    except RuntimeError as error:
        what = f"the embedded model can't be loaded: {error}"
        raise ConfigError(
            what, file=weights, remedy="delete the file and run `promptkit local fetch`"
        ) from error


_servers: dict[Path, LocalServer] = {}


_servers_lock = threading.Lock()


def shared(weights: Path) -> LocalServer:
    """The process's server for these weights. It lives as long as the process."""
    with _servers_lock:
        return _servers.setdefault(weights, LocalServer(weights))


_JSON: Final = {"content-type": "application/json"}


_SSE: Final = {"content-type": "text/event-stream"}


_FETCH: Final = "promptkit local fetch"


_INSTALL: Final = "pip install 'promptkit-router[local]'"


def open_local(provider: Provider, key: str | None) -> LocalTransport:
    """Open the embedded model; it loads on first use.

    Raises:
        LocalModelError: xllamacpp or the weights are not there, with the command to run.
    """
    del key  # it takes none
    if find_spec("xllamacpp") is None:
        what = f"provider {provider.name} needs the package xllamacpp, which is not installed"
        raise LocalModelError(what, remedy=f"run `{_INSTALL}`, then `{_FETCH}`")
    weights = weights_path(os.environ, Path.home())
    if weights is None:
        raise LocalModelError("the embedded model's weights are not there (93 MB)", remedy=f"run `{_FETCH}`")
    return LocalTransport(shared(weights))


class LocalTransport:
    """A `promptkit.providers.transport.Transport` onto a server in this process.

    It always asks for a stream, so that a call can be stopped at every token: by its time-out,
    by a cancellation, by the end of the process.
    """

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole answer (see `Transport.send`)."""
        chunks: list[JsonObject] = []
        try:
            async with asyncio.timeout(timeout_s), aclosing(self._ask(request.body, usage=True)) as items:
                async for item in items:
                    chunks.append(json.loads(item))
                    if "error" in chunks[-1]:
                        return _refused(chunks[-1])
        except Exception as error:  # noqa: BLE001 - an outcome, whatever it is
            return _failed(error, timeout_s, begun=bool(chunks))
        return WireReply(200, _JSON, json.dumps(_whole(chunks)).encode())

    @asynccontextmanager
    async def stream(self, request: WireRequest, timeout_s: float) -> AsyncGenerator[StreamStart]:
        """Send a request and read the answer as it comes (see `Transport.stream`)."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with aclosing(self._ask(request.body, usage=False)) as items:
            first = await _first(items, timeout_s, deadline)
            if isinstance(first, str):
                async with aclosing(_events(first, items, timeout_s, deadline)) as chunks:
                    yield WireStream(200, _SSE, chunks)
            else:
                yield first

    def _ask(self, body: bytes, *, usage: bool) -> AsyncGenerator[str]:
        """The chunks of a call. A process that ends waits for it: the model's memory must outlive it."""

        def work(emit: Callable[[str], bool]) -> None:
            asked: JsonObject = json.loads(body)
            asked["stream"] = True
            if usage:
                asked["stream_options"] = {"include_usage": True}
            self._server.chat(json.dumps(asked).encode(), emit)

        return from_thread(work, daemon=False)

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """The one model there is."""
        return [MODEL]

    async def aclose(self) -> None:
        """Nothing to close: the model stays loaded for the next one who asks."""


async def _first(
    items: AsyncIterator[str], timeout_s: float, deadline: float
) -> str | WireReply | TransportFailure:
    """The first chunk, or why there is none."""
    try:
        async with asyncio.timeout_at(deadline):
            first = await anext(items)
    except Exception as error:  # noqa: BLE001 - an outcome, whatever it is
        return _failed(error, timeout_s)
    chunk: JsonObject = json.loads(first)
    return _refused(chunk) if "error" in chunk else first


async def _events(
    first: str, items: AsyncIterator[str], timeout_s: float, deadline: float
) -> AsyncGenerator[bytes]:
    """Chunks as server-sent events."""
    item: str | None = first
    while item is not None:
        yield b"data: " + item.encode() + b"\n\n"
        try:
            async with asyncio.timeout_at(deadline):
                item = await anext(items, None)
        except TimeoutError as error:
            raise StreamBroken(timed_out(timeout_s, sent=True)) from error
        except (ValueError, RuntimeError) as error:  # llama.cpp gave up
            raise StreamBroken(broken(error, sent=True, key=None)) from error
    yield b"data: [DONE]\n\n"


def _whole(chunks: list[JsonObject]) -> JsonObject:
    """The answer that the chunks make up, as Chat Completions gives it whole."""
    choices: list[Any] = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    last = chunks[-1]
    return {
        "id": last["id"],
        "object": "chat.completion",
        "created": last["created"],
        "model": last["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": choices[-1]["finish_reason"],
            }
        ],
        "usage": last["usage"],
    }


def _refused(chunk: JsonObject) -> WireReply:
    code: object = chunk["error"].get("code")
    return WireReply(code if isinstance(code, int) else 500, _JSON, json.dumps(chunk).encode())


def _failed(error: Exception, timeout_s: float, *, begun: bool = False) -> WireReply | TransportFailure:
    if isinstance(error, TimeoutError):
        return timed_out(timeout_s, sent=True)
    if begun:  # it understood the request, and gave up in the middle of its answer
        return broken(error, sent=True, key=None)
    if isinstance(error, (ValueError, RuntimeError)):  # llama.cpp does not understand the request
        told = {"code": 400, "type": "invalid_request_error", "message": str(error)}
        return WireReply(400, _JSON, json.dumps({"error": told}).encode())
    return broken(error, sent=False, key=None)  # the weights can't be loaded
