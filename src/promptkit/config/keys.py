"""Keys: where they come from, and which address each may be sent to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import urlsplit

from promptkit.errors import ConfigError
from promptkit.types import Provider

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts a unit's credentials: one file per name."""

_SHORTEST_SECRET = 8
"""Shorter values aren't removed from texts: they would match everywhere."""


class Keys:
    """The keys by provider name. They appear in no repr, no pickle and no copy.

    Args:
        by_provider: the key of each provider that may use one.
        seen: all values that must be removed from texts, also those that may not be used.
    """

    __slots__ = ("_by_provider", "_seen")

    def __init__(self, by_provider: Mapping[str, str], seen: Iterable[str] = ()) -> None:
        self._by_provider = dict(by_provider)
        self._seen = tuple(dict.fromkeys([*self._by_provider.values(), *seen]))

    def get(self, provider: Provider) -> str | None:
        """Return the provider's key, or None if it has none or may not get it."""
        return self._by_provider.get(provider.name) if provider.key_allowed else None

    def usable(self, provider: Provider) -> bool:
        """Return whether calls can go to a provider: it has a key, or needs none."""
        return provider.api_key_env is None or self.get(provider) is not None

    def known(self) -> tuple[str, ...]:
        """Return the names of the providers with a usable key, sorted."""
        return tuple(sorted(self._by_provider))

    def secrets(self) -> tuple[str, ...]:
        """Return every known key, for removing it from texts; the longest first."""
        long = (secret for secret in self._seen if len(secret) >= _SHORTEST_SECRET)
        return tuple(sorted(long, key=len, reverse=True))

    def __repr__(self) -> str:
        return f"Keys({', '.join(self.known())})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled")


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key and its origin. `problem` says why it can't be one."""

    secret: str = field(repr=False)
    origin: Origin
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class KeySources:
    """The sources of keys, in this order: environment, credentials folder, env file."""

    environment: Mapping[str, str] = field(repr=False)
    credentials: Path | None
    env_file: Mapping[str, str] = field(repr=False)
    env_file_origin: Origin

    def find(self, variable: str) -> Iterator[FoundKey]:
        """Yield every value of a variable, first choice first; an empty one counts as absent."""
        if not variable:
            return
        for value, origin in (
            (self.environment.get(variable), Origin.USER),
            (self._credential(variable), Origin.USER),
            (self.env_file.get(variable), self.env_file_origin),
        ):
            secret = (value or "").strip()
            if secret:
                yield FoundKey(secret, origin, _problem(variable, secret))

    def _credential(self, variable: str) -> str | None:
        if self.credentials is None:
            return None
        file = self.credentials / variable
        try:
            return file.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise ConfigError("this credential can't be read as text", file=file) from None


def _problem(variable: str, secret: str) -> str | None:
    """Name characters that no header can carry: sent, they would come back inside an error message."""
    fine = secret.isascii() and secret.isprintable() and " " not in secret
    return None if fine else f"{variable} contains characters that no key has"


VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A valid name of an environment variable; it also prevents a name from being a path."""


# Two URL parsers could disagree about the host of such a URL.
_FORBIDDEN = re.compile(r"[^!-~]|[\\@?#]")


class Origin(StrEnum):
    """Who a file or a key comes from."""

    USER = "user"
    """The user: the environment, credentials, the user config, what promptkit ships."""
    PROJECT = "project"
    """A config file anywhere else, and the files it names."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The keys and hosts that the user trusts.

    `hosts_of` maps the variable of a key to the hosts it belongs to; `hosts` and `variables`
    are `trusted_hosts` and `trusted_keys` of the user config.
    """

    hosts_of: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    hosts: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, own: Iterable[Provider], *, hosts: Iterable[str] = (), variables: Iterable[str] = ()
    ) -> Trust:
        """Gather the providers that come from the user: each key belongs to its address."""
        gathered: dict[str, frozenset[str]] = {}
        for provider in own:
            if provider.api_key_env and provider.base_url:
                known = gathered.get(provider.api_key_env, frozenset())
                gathered[provider.api_key_env] = known | {host_of(provider.base_url)}
        return cls(gathered, frozenset(host.lower() for host in hosts), frozenset(variables))


def url_problem(url: str) -> str | None:
    """Return what is wrong with a base URL, or None. It is not repeated: it may contain a secret."""
    if "@" in url:
        return "must not contain a name or password"
    if "?" in url or "#" in url:
        return "must not contain a query or a fragment"
    if _FORBIDDEN.search(url):
        return "contains a character that no address has"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not an address like https://api.example.com/v1"
    if parts.scheme not in {"http", "https"} or not host:
        return "is not an address like https://api.example.com/v1"
    return None


def host_of(url: str) -> str:
    """Return the host of a valid URL (see `url_problem`): lower case, without the port."""
    return (urlsplit(url).hostname or "").rstrip(".")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_refusal(variable: str, url: str, origin: Origin, trust: Trust) -> str | None:
    """Return why the key in `variable` may not be sent to `url`, or None if it may.

    Args:
        variable: the environment variable that names the key.
        url: the provider's address.
        origin: who the key comes from.
        trust: what the user trusts.
    """
    host = host_of(url)
    local = is_loopback(host)
    if not local and urlsplit(url).scheme != "https":
        return f"{variable} isn't sent to {host}: over http anyone on the network can read it; use https"
    if origin is Origin.PROJECT or host in trust.hosts_of.get(variable, frozenset()):
        return None
    if variable not in trust.hosts_of and variable not in trust.variables:
        return (
            f"{variable} isn't sent to {host}: it comes from outside this project and is not a key of a provider "
            f'that promptkit ships; to allow it, put trusted_keys = ["{variable}"] into your user config, '
            "or the key into the project's env_file"
        )
    if local or host in trust.hosts:
        return None
    return (
        f"{variable} isn't sent to {host}: the key comes from outside this project and the address from its "
        f'config; to allow it, put trusted_hosts = ["{host}"] into your user config, '
        "or the key into the project's env_file"
    )
