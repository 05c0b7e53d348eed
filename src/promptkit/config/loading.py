"""Loading a configuration: find the file, read every key of it, refuse what is unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from promptkit._util import toml
from promptkit.errors import ConfigError, closest

from .budgets import read_budgets, read_clients
from .env_file import read_env_file
from .keys import CREDENTIALS, VARIABLE_NAME, KeySources, Place
from .paths import Home, find_config
from .provider_files import TrustedByUser, moved, read_providers, read_shipped, read_text, trust_of, with_keys
from .routes import read_routes, read_rules
from .settings import Keep, Kept, Settings, Storage

_DATABASE: Final = "sqlite:///"


_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


_LISTED = re.compile(r"^\s*providers\s*=", re.MULTILINE)


_TABLED = re.compile(r"^\s*\[+\s*providers\.", re.MULTILINE)


_HOST = re.compile(r"[a-z0-9.:-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _File:
    """The config file at hand, or none: its document, the folder its paths start from, whose it is."""

    path: Path | None
    doc: toml.Table
    root: Path
    place: Place
    home: Path

    def under(self, text: str) -> Path:
        """A path of the file, made absolute; `~/` is the user's home."""
        return self.home / text[2:] if text.startswith("~/") else self.root / text

    def paths(self, key: str, default: tuple[str, ...]) -> tuple[Path, ...]:
        """The folders that a key lists."""
        folders = tuple(self.under(text) for text in self.doc.texts(key, default))
        for folder in folders:
            if folder.exists() and not folder.is_dir():
                raise self.doc.fail(f"{key} lists folders, and {folder} is none", key)
        return folders


def load(path: Path | None = None, *, env: Mapping[str, str], cwd: Path, home: Path) -> Settings:
    """Find, read and check the configuration.

    Args:
        path: the file named by `--config`; else it is searched (see `places.find_config`).
        env: the process environment.
        cwd: the working directory.
        home: the user's home.

    Raises:
        ConfigError: with file, line and what to do.
    """
    cwd = cwd.absolute()
    folders = Home.of(env, home)
    at = _open(find_config(path, env, cwd, folders), cwd, home, folders)
    doc = at.doc
    sources = _key_sources(at, env)
    variables = {**sources.env_file, **env}
    ours = read_shipped()
    declared = read_providers(ours, *_providers(at))
    providers = {name: moved(one, variables) for name, one in declared.items()}
    trust = trust_of(ours, at.place, providers, env, _trusted(at, folders))
    catalog, keys = with_keys(providers, sources, trust)
    database_path = _database(at, folders)
    routes = read_routes(doc.table("routes"), catalog)
    settings = Settings(
        file=at.path,
        root=at.root,
        database=_DATABASE + str(database_path),
        database_path=database_path,
        templates=at.paths("templates", ("templates",)),
        catalog=catalog,
        routes=routes,
        rules=read_rules(doc.table("rules"), routes, catalog),
        budgets=read_budgets(doc.table("budgets")),
        clients=read_clients(doc.table("clients")),
        timezone=_timezone(doc),
        day_starts_at=_day_start(doc),
        allow_unpriced=doc.flag("allow_unpriced", default=False),
        storage=_storage(doc.table("storage")),
        keys=keys,
        warnings=_warnings(at),
    )
    doc.finish()
    return settings


def _open(file: Path | None, cwd: Path, home: Path, folders: Home) -> _File:
    if file is None:
        return _File(None, toml.parse("", file="(no config file)"), cwd, Place.OWN, home)
    doc = _parse(file)
    return _File(file, doc, file.parent.absolute(), folders.place(file), home)


def _parse(file: Path) -> toml.Table:
    text = read_text(file)
    try:
        return toml.parse(text, file=str(file))
    except ConfigError as cause:
        if _LISTED.search(text) and _TABLED.search(text):
            cause.remedy = "Beside [providers.NAME] the folders are named by provider_folders."
        raise


def _providers(at: _File) -> tuple[tuple[Path, ...], toml.Table]:
    """The folders of provider files, and `[providers.NAME]`.

    `providers` may be a list of folders instead of a table. Without a config file no folder of
    the working directory says where keys go.
    """
    listed = isinstance(at.doc.raw("providers", None), list)
    if listed and "provider_folders" in at.doc:
        raise at.doc.fail("providers and provider_folders both list folders", "providers")
    folders = at.paths("providers" if listed else "provider_folders", ("providers",)) if at.path else ()
    return folders, toml.parse("", file=at.doc.file) if listed else at.doc.table("providers")


def _key_sources(at: _File, env: Mapping[str, str]) -> KeySources:
    folder = env.get(CREDENTIALS)
    name = at.doc.text("env_file", None)
    values: dict[str, str] = {}
    place = at.place
    if name is not None:
        file = at.under(name).resolve()
        values = read_env_file(file)
        # A file outside the project's folder isn't the project's to give away.
        place = at.place if file.is_relative_to(at.root.resolve()) else Place.OWN
    return KeySources(env, Path(folder) if folder else None, values, place)


def _trusted(at: _File, home: Home) -> TrustedByUser:
    """What the user's own file trusts; a project's file can't speak for the user."""
    if at.place is Place.OWN:
        return _read_trusted(at.doc)
    for key in ("trusted_hosts", "trusted_keys"):
        if key in at.doc:
            raise at.doc.fail(
                f"{key} counts only in your own config file", key, remedy=f"Put it into {home.config_file}."
            )
    if not home.config_file.is_file():
        return TrustedByUser()
    return _read_trusted(_parse(home.config_file))


def _read_trusted(doc: toml.Table) -> TrustedByUser:
    hosts = doc.texts("trusted_hosts", ())
    keys = doc.texts("trusted_keys", ())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise doc.fail(
                f"{host!r} is no host", "trusted_hosts", remedy='Only the name: "llm.example.com".'
            )
    for key in keys:
        if not VARIABLE_NAME.fullmatch(key):
            raise doc.fail("trusted_keys lists names of environment variables", "trusted_keys")
    return TrustedByUser(hosts, keys)


def _database(at: _File, home: Home) -> Path:
    """A project keeps its database beside its config file; the user's own lies in the data folder."""
    ours = at.place is Place.OWN
    url = at.doc.text("database", _DATABASE + (str(home.data / "promptkit.db") if ours else "promptkit.db"))
    if url.startswith("postgres"):
        raise at.doc.fail(
            "PostgreSQL is not available yet", "database", remedy='Use "sqlite:///promptkit.db".'
        )
    name = url.removeprefix(_DATABASE)
    if name in {url, "", ":memory:"} or "?" in name or "\0" in name:
        raise at.doc.fail(
            "database must be an SQLite file", "database", remedy='For example "sqlite:///promptkit.db".'
        )
    return at.under(name)


def _timezone(doc: toml.Table) -> ZoneInfo:
    name = doc.text("timezone", "UTC")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise doc.fail(f"unknown time zone {name!r}", "timezone", remedy=_zone_remedy(name)) from None


def _zone_remedy(name: str) -> str:
    zones = available_timezones()
    if not zones:
        return "This machine has no time zone data: pip install tzdata."
    close = closest(name, zones)
    return close if close.startswith("Did") else 'Use a name like "Europe/Paris".'


def _day_start(doc: toml.Table) -> time:
    text = doc.text("day_starts_at", "00:00")
    found = _TIME.fullmatch(text)
    if not found:
        raise doc.fail(f"day_starts_at can't be {text!r}", "day_starts_at", remedy='Write "12:00".')
    return time(int(found[1]), int(found[2]))


def _storage(table: toml.Table) -> Storage:
    general = _kept(table, Kept())
    clients: dict[str, Kept] = {}
    for name, one in table.table("clients").items_tables():
        clients[name] = _kept(one, general)
        one.finish()
    table.finish()
    return Storage(general.replies, general.variables, clients)


def _kept(table: toml.Table, default: Kept) -> Kept:
    return Kept(
        table.choice("replies", Keep, default.replies), table.choice("variables", Keep, default.variables)
    )


def _warnings(at: _File) -> tuple[str, ...]:
    """Folders that the file names and that aren't there: a typing error, as a rule."""
    named = [key for key in ("templates", "provider_folders") if key in at.doc]
    return tuple(
        f"{at.path}: {key} names {folder}, which isn't there"
        for key in named
        for folder in at.paths(key, ())
        if not folder.exists()
    )
