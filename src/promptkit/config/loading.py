"""Load a configuration: find the file, read every key, refuse unknown ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from promptkit._util import toml
from promptkit.errors import ConfigError, closest

from .budgets import read_budgets, read_clients
from .env_file import read_env_file
from .keys import CREDENTIALS, VARIABLE_NAME, KeySources, Origin
from .paths import UserFolders, find_config
from .provider_files import at_env_address, read_providers, read_shipped, read_text, user_trust, with_keys
from .routes import read_routes, read_rules, renamed_keys
from .settings import Keep, Kept, Settings, Storage

_SQLITE = "sqlite:///"
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_PROVIDERS_LIST = re.compile(r"^\s*providers\s*=", re.MULTILINE)
_PROVIDERS_TABLE = re.compile(r"^\s*\[+\s*providers\.", re.MULTILINE)
_HOST = re.compile(r"[a-z0-9.:-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _File:
    """The config file, or none: its document, the folder its paths start from, and its origin."""

    path: Path | None
    doc: toml.Table
    root: Path
    origin: Origin
    home: Path

    def under(self, text: str) -> Path:
        """Return a path of the file as an absolute one; `~/` is the user's home."""
        return self.home / text[2:] if text.startswith("~/") else self.root / text

    def paths(self, key: str, default: tuple[str, ...]) -> tuple[Path, ...]:
        """Return the folders that a key lists."""
        folders = tuple(self.under(text) for text in self.doc.texts(key, default))
        for folder in folders:
            if folder.exists() and not folder.is_dir():
                raise self.doc.fail(f"{key} lists folders, but {folder} is a file", key)
        return folders


def load(path: Path | None = None, *, env: Mapping[str, str], cwd: Path, home: Path) -> Settings:
    """Find, read and check the configuration.

    Args:
        path: the file named by `--config`; else it is searched for (see `find_config`).
        env: the process environment.
        cwd: the working directory.
        home: the user's home.

    Raises:
        ConfigError: with file, line and what to do.
    """
    cwd = cwd.absolute()
    folders = UserFolders.of(env, home)
    at = _open(find_config(path, env, cwd, folders), cwd, home, folders)
    doc = at.doc
    sources = _key_sources(at, env)
    variables = {**sources.env_file, **env}
    shipped = read_shipped()
    declared = read_providers(shipped, *_providers(at))
    providers = {name: at_env_address(provider, variables) for name, provider in declared.items()}
    trust = user_trust(shipped, at.origin, providers, env, *_trusted(at, folders))
    catalog, keys = with_keys(providers, sources, trust)
    database_path = _database(at, folders)
    routes = read_routes(doc.table("routes"), catalog)
    settings = Settings(
        file=at.path,
        root=at.root,
        database=_SQLITE + str(database_path),
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
        warnings=tuple(_warnings(at)),
    )
    doc.finish()
    return settings


def _open(file: Path | None, cwd: Path, home: Path, folders: UserFolders) -> _File:
    if file is None:
        return _File(None, toml.parse("", file="(no config file)"), cwd, Origin.USER, home)
    doc = _parse(file)
    return _File(file, doc, file.parent.absolute(), folders.origin(file), home)


def _parse(file: Path) -> toml.Table:
    text = read_text(file)
    try:
        return toml.parse(text, file=str(file))
    except ConfigError as cause:
        if _PROVIDERS_LIST.search(text) and _PROVIDERS_TABLE.search(text):
            cause.remedy = "If the file has [providers.NAME] tables, name the folders with provider_folders."
        raise


def _providers(at: _File) -> tuple[tuple[Path, ...], toml.Table]:
    """Return the folders of provider files, and `[providers.NAME]`.

    `providers` may be a list of folders instead of a table. Without a config file, no folder of
    the working directory decides where keys are sent.
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
    origin = at.origin
    if name is not None:
        file = at.under(name).resolve()
        values = read_env_file(file)
        # A file outside the project's folder does not belong to the project.
        origin = at.origin if file.is_relative_to(at.root.resolve()) else Origin.USER
    return KeySources(env, Path(folder) if folder else None, values, origin)


def _trusted(at: _File, folders: UserFolders) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hosts and the keys that the user config trusts; a project's file can't name any."""
    if at.origin is Origin.USER:
        return _read_trusted(at.doc)
    for key in ("trusted_hosts", "trusted_keys"):
        if key in at.doc:
            raise at.doc.fail(
                f"{key} counts only in your user config", key, remedy=f"Put it into {folders.config_file}."
            )
    if not folders.config_file.is_file():
        return (), ()
    return _read_trusted(_parse(folders.config_file))


def _read_trusted(doc: toml.Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    hosts = doc.texts("trusted_hosts", ())
    keys = doc.texts("trusted_keys", ())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise doc.fail(
                f"{host!r} is not a host", "trusted_hosts", remedy='Write only the name: "llm.example.com".'
            )
    for key in keys:
        if not VARIABLE_NAME.fullmatch(key):
            raise doc.fail("trusted_keys lists names of environment variables", "trusted_keys")
    return hosts, keys


def _database(at: _File, folders: UserFolders) -> Path:
    """Return the path of the database: beside a project's config file, else in the user's data folder."""
    own = at.origin is Origin.USER
    url = at.doc.text("database", _SQLITE + (str(folders.data / "promptkit.db") if own else "promptkit.db"))
    if url.startswith("postgres"):
        raise at.doc.fail(
            "PostgreSQL is not available yet", "database", remedy='Use "sqlite:///promptkit.db".'
        )
    name = url.removeprefix(_SQLITE)
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
    match = _TIME.fullmatch(text)
    if not match:
        raise doc.fail(f"day_starts_at can't be {text!r}", "day_starts_at", remedy='Write "12:00".')
    return time(int(match[1]), int(match[2]))


def _storage(table: toml.Table) -> Storage:
    general = _kept(table, Kept())
    clients: dict[str, Kept] = {}
    for name, client in table.table("clients").items_tables():
        clients[name] = _kept(client, general)
        client.finish()
    table.finish()
    return Storage(general.replies, general.variables, clients)


def _kept(table: toml.Table, default: Kept) -> Kept:
    return Kept(
        table.choice("replies", Keep, default.replies), table.choice("variables", Keep, default.variables)
    )


def _warnings(at: _File) -> Iterator[str]:
    """Name old keys, and folders that don't exist: usually a typing error."""
    yield from renamed_keys(at.doc.table("routes"))
    for key in ("templates", "provider_folders"):
        for folder in at.paths(key, ()) if key in at.doc else ():
            if not folder.exists():
                yield f"{at.path}: {key} names {folder}, which does not exist"
