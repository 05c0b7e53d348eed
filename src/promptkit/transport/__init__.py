"""One client per provider: a prebuilt request goes out, an answer comes back as a value.

The official SDK supplies the client, the address, authentication and default headers; its
retries are off. Opening a transport imports its SDK and no other; importing this imports none.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from promptkit.errors import ConfigError
from promptkit.types import Provider

from .base import MAX_BODY, StreamBroken, StreamStart, Transport, WireStream

__all__ = [
    "DRIVERS",
    "GROUP",
    "MAX_BODY",
    "StreamBroken",
    "StreamStart",
    "Transport",
    "WireStream",
    "open_transport",
]

GROUP: Final = "promptkit.transports"
"""The entry point group by which other packages bring drivers."""

DRIVERS: Final = {
    "openai": "promptkit.transport.openai_sdk:open_openai",
    "anthropic": "promptkit.transport.anthropic_sdk:open_anthropic",
    "google-genai": "promptkit.transport.genai_sdk:open_genai",
    "google-generativeai": "promptkit.transport.generativeai_sdk:open_generativeai",
    "xllamacpp": "promptkit.local.transport:open_local",
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
