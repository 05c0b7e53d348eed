"""Which of an SDK's default headers may go to which host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from promptkit.errors import ConfigError
from promptkit.types import Provider

NO_KEY: Final = "no-key"
"""What an SDK is given where there is no key, so that it looks for none in the environment; the
header that carries it never leaves."""

_WIRE: Final = (
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
)
_SDK: Final = ("x-stainless-", "anthropic-version", "x-goog-api-client")
_AUTH: Final = ("authorization", "x-api-key", "x-goog-api-key")


def rule(provider: Provider, key: str | None) -> Callable[[str], bool]:
    """Say which headers (lower-case names) may go to a provider.

    The SDKs add what the environment says (organisation, project, custom headers with a
    gateway's token): that is for their own provider, at an address that is not a project's
    own choice, with its key, and for nobody else.
    """
    if key is not None and provider.trusted and provider.name == provider.adapter:
        return lambda _name: True
    names = _WIRE if key is None else _WIRE + _AUTH
    return lambda name: name in names or name.startswith(_SDK)


def allowed(headers: Mapping[str, object], may_send: Callable[[str], bool]) -> dict[str, str]:
    """The headers to send with each request; an SDK marks what it leaves out by other types."""
    return {
        name: value for name, value in headers.items() if isinstance(value, str) and may_send(name.lower())
    }


def checked(key: str | None, provider: Provider) -> str:
    """The key as an SDK takes it, or `NO_KEY`.

    Raises:
        ConfigError: it holds what no header can carry (a newline, a curly quote).
    """
    if key is None:
        return NO_KEY
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        what = f"the key of {provider.name} is empty or holds a character that no header can carry"
        raise ConfigError(
            what, remedy=f"set {provider.api_key_env or 'the key'} again, without quotes or newlines"
        )
    return key
