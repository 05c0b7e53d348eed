"""The embedded model: one server per process, called without a network.

xllamacpp's server also listens on a loopback port, which can't be turned off; a random key
protects it.
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
from typing import Any

from promptkit.errors import ConfigError
from promptkit.types import JsonObject, Provider, TransportFailure, WireReply, WireRequest

from .local_weights import LocalModelError, weights_path
from .transport import StreamBroken, StreamStart, WireStream, from_thread, timed_out, transport_failure

MODEL = "smollm2-135m"

CONTEXT = 2048
"""The context of each parallel call, in tokens."""

PARALLEL = 2
_SILENT = -1


class LocalServer:
    """The server of a model. It loads on the first call (0.4 s); all transports share it."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._server: Any = None

    def chat(self, body: bytes, emit: Callable[[str], bool]) -> None:
        """Handle a chat request. Blocks: call it in a thread.

        Args:
            body: a Chat Completions request for a stream.
            emit: called with each chunk, a JSON text; it returns True to stop.

        Raises:
            ValueError, RuntimeError: llama.cpp does not understand the request.
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
    # Half of the cores: the threads wait for each other at every step, and if one of them shares its
    # core with another program, all of them stop (measured: 4 to 40 times slower).
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
        raise ConfigError(
            f"the embedded model can't be loaded: {error}",
            file=weights,
            remedy="delete the file and run `promptkit local fetch`",
        ) from error


_servers: dict[Path, LocalServer] = {}
_servers_lock = threading.Lock()


def shared(weights: Path) -> LocalServer:
    """Return the process's server for these weights. It lives as long as the process."""
    with _servers_lock:
        return _servers.setdefault(weights, LocalServer(weights))


_JSON = {"content-type": "application/json"}
_SSE = {"content-type": "text/event-stream"}
_FETCH = "promptkit local fetch"
_INSTALL = "pip install 'promptkit-router[local]'"


def open_local(provider: Provider, key: str | None) -> LocalTransport:
    """Open the embedded model; it loads on first use.

    Raises:
        LocalModelError: xllamacpp or the weights are missing; the remedy is the command to run.
    """
    del key  # it takes none
    if find_spec("xllamacpp") is None:
        raise LocalModelError(
            f"provider {provider.name} needs the package xllamacpp, which is not installed",
            remedy=f"run `{_INSTALL}`, then `{_FETCH}`",
        )
    weights = weights_path(os.environ, Path.home())
    if weights is None:
        raise LocalModelError("the embedded model's weights are missing (93 MB)", remedy=f"run `{_FETCH}`")
    return LocalTransport(shared(weights))


class LocalTransport:
    """A `promptkit.providers.transport.Transport` to a server in this process.

    It always requests a stream: a call can then be stopped at every token, by its timeout, by a
    cancellation, or by the end of the process.
    """

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole reply (see `Transport.send`)."""
        chunks: list[JsonObject] = []
        try:
            async with asyncio.timeout(timeout_s), aclosing(self._chunks(request.body, usage=True)) as items:
                async for item in items:
                    chunks.append(json.loads(item))
                    if "error" in chunks[-1]:
                        return _refused(chunks[-1])
        except Exception as error:  # noqa: BLE001 - every error is an outcome
            return _failed(error, timeout_s, begun=bool(chunks))
        return WireReply(200, _JSON, json.dumps(_whole(chunks)).encode())

    @asynccontextmanager
    async def stream(self, request: WireRequest, timeout_s: float) -> AsyncGenerator[StreamStart]:
        """Send a request and read the response as it arrives (see `Transport.stream`)."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with aclosing(self._chunks(request.body, usage=False)) as items:
            first = await _first(items, timeout_s, deadline)
            if isinstance(first, str):
                async with aclosing(_events(first, items, timeout_s, deadline)) as chunks:
                    yield WireStream(200, _SSE, chunks)
            else:
                yield first

    def _chunks(self, body: bytes, *, usage: bool) -> AsyncGenerator[str]:
        """Yield the chunks of a call. A process that ends waits for it: the model's memory must outlive it."""

        def work(emit: Callable[[str], bool]) -> None:
            request: JsonObject = json.loads(body)
            request["stream"] = True
            if usage:
                request["stream_options"] = {"include_usage": True}
            self._server.chat(json.dumps(request).encode(), emit)

        return from_thread(work, daemon=False)

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """Return the only model."""
        return [MODEL]

    async def aclose(self) -> None:
        """Do nothing: the model stays loaded for the next transport."""


async def _first(
    items: AsyncIterator[str], timeout_s: float, deadline: float
) -> str | WireReply | TransportFailure:
    """Return the first chunk, or why there is none."""
    try:
        async with asyncio.timeout_at(deadline):
            first = await anext(items)
    except Exception as error:  # noqa: BLE001 - every error is an outcome
        return _failed(error, timeout_s)
    chunk: JsonObject = json.loads(first)
    return _refused(chunk) if "error" in chunk else first


async def _events(
    first: str, items: AsyncIterator[str], timeout_s: float, deadline: float
) -> AsyncGenerator[bytes]:
    """Yield chunks as server-sent events."""
    item: str | None = first
    while item is not None:
        yield b"data: " + item.encode() + b"\n\n"
        try:
            async with asyncio.timeout_at(deadline):
                item = await anext(items, None)
        except TimeoutError as error:
            raise StreamBroken(timed_out(timeout_s, sent=True)) from error
        except (ValueError, RuntimeError) as error:  # llama.cpp stopped
            raise StreamBroken(transport_failure(error, sent=True, key=None)) from error
    yield b"data: [DONE]\n\n"


def _whole(chunks: list[JsonObject]) -> JsonObject:
    """Join the chunks into one Chat Completions reply."""
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
    if begun:  # it understood the request, and stopped in the middle of its reply
        return transport_failure(error, sent=True, key=None)
    if isinstance(error, (ValueError, RuntimeError)):  # llama.cpp does not understand the request
        problem = {"code": 400, "type": "invalid_request_error", "message": str(error)}
        return WireReply(400, _JSON, json.dumps({"error": problem}).encode())
    return transport_failure(error, sent=False, key=None)  # the weights can't be loaded
