"""Where a key may go: the decision behind "no config file can steal a key".

Anyone can put a `promptkit.toml` into a folder that somebody else will work in. Such a
file may say a lot, but it must not send the *user's* key, one that comes from the environment
or from credentials outside the project, to an address of the file's choosing. A key that the
project itself brings (in an `env_file` inside its own folder) is the project's to send.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from promptkit.types import Provider

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
