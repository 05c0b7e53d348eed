"""What the doctor looks at: each examination gives lines of what is well and what is not."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from promptkit.config.paths import shipped
from promptkit.config.settings import Settings
from promptkit.errors import ExitCode, LedgerError, PromptKitError
from promptkit.routing.budgets import Budgets
from promptkit.types import Json

_SMALL_ENOUGH: Final = 2 * 2**30
"""Up to this size, in bytes, the whole database is read through."""


_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


_REMOTE: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ncpfs", "glusterfs")
)


_BUILT: Final = 2026
"""The year in which this was written: an earlier clock is wrong."""


_CODES: Final = {"config": ExitCode.USAGE, "seals": ExitCode.TEMPLATE, "database": ExitCode.STORAGE}
"""What the command would exit with that met the failure."""


class Health(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, how it is, and what to do about it."""

    name: str
    health: Health
    says: str
    remedy: str | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code that it calls for."""
        return _CODES.get(self.name, ExitCode.USAGE) if self.health is Health.FAIL else ExitCode.OK

    def as_json(self) -> dict[str, Json]:
        """The same as JSON."""
        return {"name": self.name, "health": self.health.value, "says": self.says, "remedy": self.remedy}


def machine() -> Iterator[Finding]:
    """Python, promptkit and SQLite."""
    from promptkit.ledger.database import is_wal_reset_affected, sqlite_version

    yield Finding("python", Health.OK, f"{platform.python_version()} at {sys.executable}")
    yield Finding("promptkit", Health.OK, version("promptkit-router"))
    sqlite = sqlite_version()
    told = ".".join(map(str, sqlite))
    if is_wal_reset_affected(sqlite):
        yield Finding(
            "sqlite",
            Health.WARN,
            f"{told} has the WAL-reset bug; promptkit keeps its own processes apart, which avoids it",
            "Let no other program write to the database; SQLite 3.51.3 has the fix.",
        )
    else:
        yield Finding("sqlite", Health.OK, told)


def configuration(settings: Settings) -> Iterator[Finding]:
    """The file that was found, and what it warns of."""
    if settings.file is None:
        yield Finding(
            "config",
            Health.WARN,
            "no promptkit.toml was found: there are no caps",
            "promptkit init makes a project.",
        )
    else:
        yield Finding("config", Health.OK, str(settings.file))
    for warning in settings.warnings:
        yield Finding("config", Health.WARN, warning)
    if settings.file is not None and settings.budgets == Budgets():
        yield Finding(
            "budgets", Health.WARN, "there are no caps", "[budgets] per_job_usd and per_day_usd set them."
        )


def seals(settings: Settings) -> Iterator[Finding]:
    """Whether published versions are as they were sealed."""
    from promptkit.templates.library import Library

    problems = Library((*settings.templates, shipped("templates"))).check_seals()
    for problem in problems:
        yield Finding("seals", Health.FAIL, *_split(problem))
    if not problems:
        yield Finding("seals", Health.OK, "every published version is as it was sealed")


def keys(settings: Settings) -> Iterator[Finding]:
    """Which providers have a key; no key is shown."""
    providers = settings.catalog.providers.values()
    known = settings.keys.known()
    needed = {target.provider for route in settings.routes.values() for target in route.targets}
    if known:
        yield Finding("keys", Health.OK, f"present for {', '.join(known)}")
    else:
        yield Finding(
            "keys",
            Health.WARN,
            "there are none: only the embedded model can answer",
            "Put OPENAI_API_KEY=... into the env_file of promptkit.toml, or into the environment.",
        )
    for provider in providers:
        if provider.name in needed and not settings.keys.usable(provider) and known:
            why = provider.key_why or f"{provider.api_key_env} isn't set"
            yield Finding("keys", Health.WARN, f"{provider.name} is on a route, and is skipped: {why}")


def database(settings: Settings, mounts: str, *, whole: bool) -> Iterator[Finding]:
    """The ledger's file: local, private, writable, of this schema, whole.

    Args:
        settings: where it is.
        mounts: the text of /proc/mounts.
        whole: read it through however large it is.
    """
    path = settings.database_path
    folder = next(parent for parent in path.parents if parent.exists())
    kind = file_system(folder, mounts)
    if kind in _REMOTE:
        yield Finding(
            "database",
            Health.FAIL,
            f"{folder} is a network drive ({kind})",
            "Put the database on a local disk.",
        )
    if not os.access(folder, os.W_OK):
        yield Finding("database", Health.FAIL, f"{folder} can't be written", "Check its permissions.")
    elif not path.exists():
        yield Finding("database", Health.OK, f"{path} isn't there yet: the first call makes it")
    else:
        yield from _database_file(path, whole=whole)


def _database_file(path: Path, *, whole: bool) -> Iterator[Finding]:
    from promptkit.ledger.ledger import Ledger

    size = sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*") if one.is_file())
    try:
        with Ledger.open(path, busy_timeout_s=2) as ledger:
            from promptkit.ledger.database import HEAD

            yield Finding("database", Health.OK, f"{path}: {size / 1e6:,.1f} MB, schema {HEAD}")
            problems = ledger.quick_check() if whole or size < _SMALL_ENOUGH else None
    except LedgerError as cause:
        yield Finding("database", Health.FAIL, f"{cause.where}: {cause.what}", cause.remedy)
        return
    if path.stat().st_mode & _OTHERS:
        yield Finding("database", Health.WARN, "other users can read the database", f"chmod 600 {path}")
    if problems is None:
        yield Finding("database", Health.WARN, "large: not read through", "promptkit doctor --verbose does.")
    for problem in problems or ():
        yield Finding("database", Health.FAIL, problem, "Restore a backup, or `sqlite3 FILE .recover`.")


def file_system(folder: Path, mounts: str) -> str:
    """The kind of file system that a folder lies on.

    Args:
        folder: an absolute path.
        mounts: the text of /proc/mounts: device, place, kind and more a line.
    """
    found, kind = -1, ""
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:  # noqa: PLR2004 - device, place, kind
            continue
        place = parts[1].replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= found:
            found, kind = len(place), parts[2]
    return kind


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text("utf-8", "replace")
    except OSError:
        return ""


def clock(settings: Settings, now: datetime) -> Iterator[Finding]:
    """The time, and the day that budgets count; `now` is aware."""
    from promptkit.routing.budgets import day_of

    if now.year < _BUILT:
        yield Finding(
            "clock", Health.FAIL, f"it says {now:%Y-%m-%d}", "Set the clock: timedatectl set-ntp true"
        )
        return
    local = now.astimezone(settings.timezone)
    day = day_of(now, settings.timezone, settings.day_starts_at)
    yield Finding(
        "clock",
        Health.OK,
        f"{local:%Y-%m-%d %H:%M:%S} in {settings.timezone.key}; the budget day is {day} "
        f"(it begins at {settings.day_starts_at:%H:%M})",
    )


def cron(environment: Mapping[str, str], settings: Settings) -> Iterator[Finding]:
    """What a job under cron will find: no terminal, another folder, next to no environment."""
    if "HOME" not in environment:
        yield Finding(
            "cron",
            Health.WARN,
            "HOME isn't set: your own configuration and cache are found by the password file",
            "Put HOME=... at the top of the crontab.",
        )
    command = Path(sys.argv[0])
    found = command if command.is_absolute() else Path(sys.executable).with_name("promptkit")
    config = settings.file or "/path/to/promptkit.toml"
    yield Finding(
        "cron", Health.OK, f"name both files in a crontab: {found} batch ... --config {config} --quiet"
    )
    outside = [name for name in _key_names(settings) if environment.get(name)]
    if outside:
        yield Finding(
            "cron",
            Health.WARN,
            f"{', '.join(outside)} comes from this shell's environment, which cron doesn't have",
            "Put it into the env_file of promptkit.toml.",
        )


def _key_names(settings: Settings) -> list[str]:
    names = (settings.catalog.provider(name).api_key_env for name in settings.keys.known())
    return [name for name in names if name is not None]


def local_model(environment: Mapping[str, str], home: Path) -> Iterator[Finding]:
    """Whether the embedded model is here."""
    from promptkit.providers.local_weights import weights_path

    if find_spec("xllamacpp") is None:
        yield Finding(
            "local model", Health.WARN, "xllamacpp isn't installed", "pip install 'promptkit-router[local]'"
        )
        return
    weights = weights_path(environment, home)
    if weights is None:
        yield Finding("local model", Health.WARN, "its weights aren't here (93 MB)", "promptkit local fetch")
    else:
        yield Finding("local model", Health.OK, str(weights))


def examine(load: Callable[[], Settings], *, whole: bool) -> Iterator[Finding]:
    """Everything, in order. A configuration that can't stand is a finding, and ends what needs one."""
    yield from machine()
    yield from local_model(os.environ, Path.home())
    try:
        settings = load()
    except PromptKitError as cause:
        yield Finding("config", Health.FAIL, f"{cause.where}: {cause.what}", cause.remedy)
        return
    yield from configuration(settings)
    yield from seals(settings)
    yield from keys(settings)
    yield from database(settings, _mounts(), whole=whole)
    yield from clock(settings, datetime.now(UTC))
    yield from cron(os.environ, settings)


def _split(text: str) -> tuple[str, str | None]:
    """An error's text as what is wrong and what to do."""
    what, _, remedy = text.partition("\n")
    return what, remedy.strip() or None
