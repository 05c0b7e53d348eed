"""Providers put together, and each judged whether it may have its key.

Shipped files come first, the user's files over them, `[providers.NAME]` over those, and the
SDKs' own address variables over all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from promptkit import toml
from promptkit.catalog import Catalog, Place, Trust, key_refusal, read_provider, url_problem
from promptkit.errors import ConfigError, closest
from promptkit.types import Provider

from .keys import Found, Keys, KeySources
from .places import shipped


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        ConfigError: it can't be read, or isn't UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as cause:
        raise ConfigError(f"can't be read: {cause.strerror}", file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", file=path) from None


def read_folder(folder: Path) -> dict[str, Provider]:
    """Read the provider files of a folder; one that isn't there holds none.

    Raises:
        ConfigError: with file and line.
    """
    return {
        file.stem: read_provider(file.stem, toml.parse(read_text(file), file=str(file)))
        for file in sorted(folder.glob("[!.]*.toml"))
    }


def read_shipped() -> dict[str, Provider]:
    """Read the providers as promptkit ships them: what the user's keys belong to."""
    return read_folder(shipped("providers"))


def read_providers(
    ours: Mapping[str, Provider], folders: Sequence[Path], overrides: toml.Table
) -> dict[str, Provider]:
    """Lay the user's provider files over the shipped ones, whole files, then `[providers.NAME]`.

    The first folder that has a name wins.

    Raises:
        ConfigError: with file and line.
    """
    providers = dict(ours)
    for folder in reversed(folders):
        providers |= read_folder(folder)
    for name, table in overrides.items_tables():
        base = providers.get(name)
        if base is None and "adapter" not in table:
            raise table.fail(
                f"unknown provider {name!r}",
                remedy=f"{closest(name, providers)} A new one needs adapter and base_url.",
            )
        providers[name] = read_provider(name, table, base)
    return dict(sorted(providers.items()))


def moved(provider: Provider, env: Mapping[str, str]) -> Provider:
    """The provider at the address that its SDK's own variable names, if that is set.

    Raises:
        ConfigError: it is no address. The value isn't repeated: it may hold a password.
    """
    variable = provider.base_url_env or ""
    url = env.get(variable, "").strip()
    if not url:
        return provider
    problem = url_problem(url)
    if problem:
        raise ConfigError(f"{variable} {problem}", remedy=f"Unset {variable}, or set a plain address.")
    return dataclasses.replace(provider, base_url=url.rstrip("/"))


@dataclasses.dataclass(frozen=True, slots=True)
class TrustedByUser:
    """`trusted_hosts` and `trusted_keys` of the user's own config file."""

    hosts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def trust_of(
    ours: Mapping[str, Provider],
    file_place: Place,
    providers: Mapping[str, Provider],
    env: Mapping[str, str],
    by_user: TrustedByUser,
) -> Trust:
    """Gather what the user's own side says about keys and hosts.

    That is the shipped files, the addresses in the process environment, and the configuration
    itself where it is the user's own.
    """
    own = [*ours.values(), *(moved(provider, env) for provider in ours.values())]
    if file_place is Place.OWN:
        own += providers.values()
    return Trust.of(own, hosts=by_user.hosts, variables=by_user.keys)


def with_keys(providers: Mapping[str, Provider], sources: KeySources, trust: Trust) -> tuple[Catalog, Keys]:
    """Judge every provider and give it its key, the first one that may go to its address."""
    granted: dict[str, str] = {}
    seen: list[str] = []
    judged: dict[str, Provider] = {}
    for name, provider in providers.items():
        found = list(sources.found(provider.api_key_env or ""))
        seen += [one.secret for one in found]
        refusals = [_refusal(provider, one, trust) for one in found]
        usable = [one for one, refusal in zip(found, refusals, strict=True) if refusal is None]
        if usable:
            granted[name] = usable[0].secret
        told = dataclasses.replace(provider, trusted=_trusted(provider, trust))
        judged[name] = told if usable or not found else _refused(told, refusals)
    return Catalog(judged), Keys(granted, seen)


def _refusal(provider: Provider, found: Found, trust: Trust) -> str | None:
    if found.problem or not (provider.api_key_env and provider.base_url):
        return found.problem
    return key_refusal(provider.api_key_env, provider.base_url, found.place, trust)


def _trusted(provider: Provider, trust: Trust) -> bool:
    """Whether the address may see the user's own things: it is where the user's own key could go."""
    if not (provider.api_key_env and provider.base_url):
        return False
    return key_refusal(provider.api_key_env, provider.base_url, Place.OWN, trust) is None


def _refused(provider: Provider, refusals: Iterable[str | None]) -> Provider:
    why = next(refusal for refusal in refusals if refusal)
    return dataclasses.replace(provider, key_allowed=False, key_why=why)
