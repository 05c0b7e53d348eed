"""Keys: found in three places, and given out only for the address they may go to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

from promptkit.errors import ConfigError
from promptkit.types import Provider

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""Where systemd puts a unit's credentials: one file per name."""


_SHORTEST_SECRET = 8
"""Shorter values aren't scrubbed from texts: they would be found everywhere."""


class Keys:
    """The keys by provider name. They are in no repr, no pickle and no copy.

    Args:
        by_provider: the key of each provider that may use one.
        seen: all values that must be scrubbed from texts, those that may not be used included.
    """

    __slots__ = ("_by_provider", "_seen")

    def __init__(self, by_provider: Mapping[str, str], seen: Iterable[str] = ()) -> None:
        self._by_provider = dict(by_provider)
        self._seen = tuple(dict.fromkeys([*self._by_provider.values(), *seen]))

    def get(self, provider: Provider) -> str | None:
        """The provider's key; None where it has none or may not be sent one."""
        return self._by_provider.get(provider.name) if provider.key_allowed else None

    def usable(self, provider: Provider) -> bool:
        """Whether calls can go there: it has a key, or needs none."""
        return provider.api_key_env is None or self.get(provider) is not None

    def known(self) -> tuple[str, ...]:
        """The names of the providers with a usable key, sorted."""
        return tuple(sorted(self._by_provider))

    def secrets(self) -> tuple[str, ...]:
        """Every key that was found, for scrubbing it from texts; the longest first."""
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
class Found:
    """A key and whose it is. `problem` says why it can't be one."""

    secret: str = field(repr=False)
    place: Place
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class KeySources:
    """Where keys are looked up, in this order: environment, credentials folder, env file."""

    environment: Mapping[str, str] = field(repr=False)
    credentials: Path | None
    env_file: Mapping[str, str] = field(repr=False)
    env_file_place: Place

    def found(self, variable: str) -> Iterator[Found]:
        """Every value of a variable, first choice first; an empty one counts as absent."""
        if not variable:
            return
        for value, place in (
            (self.environment.get(variable), Place.OWN),
            (self._credential(variable), Place.OWN),
            (self.env_file.get(variable), self.env_file_place),
        ):
            secret = (value or "").strip()
            if secret:
                yield Found(secret, place, _problem(variable, secret))

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
    """Characters that no header can carry: sent, they would come back inside an error message."""
    fine = secret.isascii() and secret.isprintable() and " " not in secret
    return None if fine else f"{variable} holds characters that no key has"


VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What an environment variable may be called; it also keeps a name from being a path."""


# Where two URL parsers could disagree about the host, there is no URL.
_FORBIDDEN = re.compile(r"[^!-~]|[\\@?#]")


class Place(StrEnum):
    """Whose word it is."""

    OWN = "own"
    """The user's: the environment, credentials, the user's config folder, what promptkit ships."""
    PROJECT = "project"
    """A config file anywhere else, and what it brings along."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the user's own side says about keys and hosts.

    `hosts_of` maps the variable of a key to the hosts it belongs to; `hosts` and `variables`
    are `trusted_hosts` and `trusted_keys` of the user's own config file.
    """

    hosts_of: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    hosts: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, own: Iterable[Provider], *, hosts: Iterable[str] = (), variables: Iterable[str] = ()
    ) -> Trust:
        """Gather what providers of the user's own side say: each key belongs to its address."""
        gathered: dict[str, frozenset[str]] = {}
        for provider in own:
            if provider.api_key_env and provider.base_url:
                known = gathered.get(provider.api_key_env, frozenset())
                gathered[provider.api_key_env] = known | {host_of(provider.base_url)}
        return cls(gathered, frozenset(host.lower() for host in hosts), frozenset(variables))


def url_problem(url: str) -> str | None:
    """What is wrong with a base URL, without repeating it (it may hold a secret); None if fine."""
    if "@" in url:
        return "must not hold a name or password"
    if "?" in url or "#" in url:
        return "must not hold a query or a fragment"
    if _FORBIDDEN.search(url):
        return "holds a character that no address has"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not an address like https://api.example.com/v1"
    if parts.scheme not in {"http", "https"} or not host:
        return "is not an address like https://api.example.com/v1"
    return None


def host_of(url: str) -> str:
    """The host of a URL that `url_problem` finds nothing wrong with: lower case, no port."""
    return (urlsplit(url).hostname or "").rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_refusal(variable: str, url: str, key_from: Place, trust: Trust) -> str | None:
    """Decide whether the key in `variable` may go to `url`: None if so, else why not.

    Args:
        variable: the environment variable that names the key.
        url: the provider's address.
        key_from: whose key it is.
        trust: what the user's own side says.
    """
    host = host_of(url)
    local = is_loopback(host)
    if not local and urlsplit(url).scheme != "https":
        return f"{variable} isn't sent to {host}: http would show it to the network; use https"
    if key_from is Place.PROJECT or host in trust.hosts_of.get(variable, frozenset()):
        return None
    if variable not in trust.hosts_of and variable not in trust.variables:
        return (
            f"{variable} isn't sent to {host}: it comes from outside this project and is no key of a provider "
            f'that promptkit ships; to allow it, put trusted_keys = ["{variable}"] into your own config file, '
            "or the key into the project's env_file"
        )
    if local or host in trust.hosts:
        return None
    return (
        f"{variable} isn't sent to {host}: the key comes from outside this project and the address from its "
        f'config; to allow it, put trusted_hosts = ["{host}"] into your own config file, '
        "or the key into the project's env_file"
    )
