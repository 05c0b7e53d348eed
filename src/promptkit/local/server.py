"""The embedded model: one server a process, called without a network in between.

xllamacpp's server also listens on a loopback port, which can't be turned off; a random key
that nobody is told closes it.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from promptkit.errors import ConfigError

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
