"""`promptkit doctor`: checks of this machine, the configuration and the ledger."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from promptkit.cli.command import Cli
from promptkit.config.paths import shipped
from promptkit.errors import ExitCode, LedgerError, PromptKitError, worst
from promptkit.routing.budgets import Budgets, day_of

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.types import Json

_QUICK_CHECK_SIZE = 2 * 2**30
"""The size, in bytes, up to which the whole database is checked."""

_OTHER_USERS = stat.S_IRWXG | stat.S_IRWXO

_NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ncpfs", "glusterfs")
)

_WRITTEN_IN = 2026
"""The year in which this was written: an earlier clock is wrong."""

_CODES = {"config": ExitCode.USAGE, "seals": ExitCode.TEMPLATE, "database": ExitCode.STORAGE}
"""The exit code of a command that meets the failure."""

_COLORS = {"ok": "32", "warn": "33", "fail": "1;31"}


class Health(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked fact, its health, and what to do about it."""

    name: str
    health: Health
    text: str
    remedy: str | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code of the finding."""
        return _CODES.get(self.name, ExitCode.USAGE) if self.health is Health.FAIL else ExitCode.OK

    def json(self) -> dict[str, Json]:
        """Return the finding as JSON."""
        return {"name": self.name, "health": self.health.value, "says": self.text, "remedy": self.remedy}

    def line(self, *, color: bool) -> str:
        """Return the finding as one line, and its remedy as another."""
        word = f"{self.health:<4}"
        shown = f"\x1b[{_COLORS[self.health]}m{word}\x1b[0m" if color else word
        line = f"{shown}  {self.name:<11}  {self.text}"
        return f"{line}\n{'':19}{self.remedy}" if self.remedy else line


def _ok(name: str, text: str) -> Finding:
    return Finding(name, Health.OK, text)


def _warn(name: str, text: str, remedy: str | None = None) -> Finding:
    return Finding(name, Health.WARN, text, remedy)


def _fail(name: str, text: str, remedy: str | None) -> Finding:
    return Finding(name, Health.FAIL, text, remedy)


def doctor(cli: Cli) -> int:
    """Check this machine, the configuration and the ledger.

    It checks Python and SQLite, the embedded model, the configuration, the seals of templates, keys
    (never shown), the database, the clock, and the environment of cron. The exit code is 0 unless a
    check fails.

    Examples:
        promptkit doctor
        promptkit doctor --config /srv/studio/promptkit.toml --json
    """
    findings: list[Finding] = []
    for finding in _checks(cli):
        findings.append(finding)
        if not cli.as_json:
            cli.print(finding.line(color=cli.color))
    if cli.as_json:
        cli.print_json([finding.json() for finding in findings])
    return worst([finding.code for finding in findings])


def _checks(cli: Cli) -> Iterator[Finding]:
    """Yield all findings, in order; an invalid configuration is one, and ends the checks that need it."""
    yield from _machine()
    yield from local_model(os.environ, Path.home())
    try:
        settings = cli.settings()
    except PromptKitError as cause:
        yield _fail("config", f"{cause.where}: {cause.message}", cause.remedy)
        return
    yield from _configuration(settings)
    yield from _seals(settings)
    yield from _keys(settings)
    yield from database(settings, _mounts(), whole=cli.verbose)
    yield from clock(settings, datetime.now(UTC))
    yield from cron(os.environ, settings)


def _machine() -> Iterator[Finding]:
    from promptkit.ledger.database import is_wal_reset_affected, sqlite_version

    yield _ok("python", f"{platform.python_version()} at {sys.executable}")
    yield _ok("promptkit", version("promptkit-router"))
    sqlite = sqlite_version()
    number = ".".join(map(str, sqlite))
    if is_wal_reset_affected(sqlite):
        yield _warn(
            "sqlite",
            f"{number} has the WAL-reset bug; promptkit's own processes avoid it with a lock",
            "Let no other program write to the database. SQLite 3.51.3 has the fix.",
        )
    else:
        yield _ok("sqlite", number)


def local_model(environment: Mapping[str, str], home: Path) -> Iterator[Finding]:
    """Check whether the embedded model is available."""
    from promptkit.providers.local_weights import weights_path

    if find_spec("xllamacpp") is None:
        yield _warn("local model", "xllamacpp isn't installed", "pip install 'promptkit-router[local]'")
        return
    weights = weights_path(environment, home)
    if weights is None:
        yield _warn("local model", "its weights are not downloaded (93 MB)", "promptkit local fetch")
    else:
        yield _ok("local model", str(weights))


def _configuration(settings: Settings) -> Iterator[Finding]:
    if settings.file is None:
        yield _warn(
            "config",
            "there is no promptkit.toml, so there are no caps",
            "Run `promptkit init` to create a project.",
        )
    else:
        yield _ok("config", str(settings.file))
    for warning in settings.warnings:
        yield _warn("config", warning)
    if settings.file is not None and settings.budgets == Budgets():
        yield _warn(
            "budgets",
            "there are no caps",
            "Set per_job_usd and per_day_usd under [budgets] in promptkit.toml.",
        )


def _seals(settings: Settings) -> Iterator[Finding]:
    from promptkit.templates.library import Library

    problems = Library((*settings.templates, shipped("templates"))).check_seals()
    for problem in problems:
        text, _, remedy = problem.partition("\n")
        yield _fail("seals", text, remedy.strip() or None)
    if not problems:
        yield _ok("seals", "every published version matches its seal")


def _keys(settings: Settings) -> Iterator[Finding]:
    known = settings.keys.known()
    needed = {target.provider for route in settings.routes.values() for target in route.targets}
    if known:
        yield _ok("keys", f"set for {', '.join(known)}")
    else:
        yield _warn(
            "keys",
            "there are none: only the embedded model is available",
            "Put OPENAI_API_KEY=... into the env_file of promptkit.toml, or into the environment.",
        )
    for provider in settings.catalog.providers.values():
        if provider.name in needed and not settings.keys.usable(provider) and known:
            why = provider.key_why or f"{provider.api_key_env} isn't set"
            yield _warn("keys", f"{provider.name} is on a route, and is skipped: {why}")


def database(settings: Settings, mounts: str, *, whole: bool) -> Iterator[Finding]:
    """Check that the database is local, private, writable, intact, and has this version's schema.

    Args:
        settings: where it is.
        mounts: the text of /proc/mounts.
        whole: check all of it, whatever its size.
    """
    path = settings.database_path
    folder = next(parent for parent in path.parents if parent.exists())
    kind = file_system(folder, mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        yield _fail("database", f"{folder} is a network drive ({kind})", "Put the database on a local disk.")
    if not os.access(folder, os.W_OK):
        yield _fail("database", f"{folder} is not writable", "Check its permissions.")
    elif not path.exists():
        yield _ok("database", f"{path} does not exist yet: the first call creates it")
    else:
        yield from _database_file(path, whole=whole)


def _database_file(path: Path, *, whole: bool) -> Iterator[Finding]:
    from promptkit.ledger.ledger import Ledger

    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.is_file())
    try:
        with Ledger.open(path, busy_timeout_s=2) as ledger:
            from promptkit.ledger.database import HEAD

            yield _ok("database", f"{path}: {size / 1e6:,.1f} MB, schema {HEAD}")
            problems = ledger.quick_check() if whole or size < _QUICK_CHECK_SIZE else None
    except LedgerError as cause:
        yield _fail("database", f"{cause.where}: {cause.message}", cause.remedy)
        return
    if path.stat().st_mode & _OTHER_USERS:
        yield _warn("database", "other users can read the database", f"chmod 600 {path}")
    if problems is None:
        yield _warn(
            "database",
            "its contents were not checked, because it is large",
            "Run `promptkit doctor --verbose` to check them.",
        )
    for problem in problems or ():
        yield _fail("database", problem, "Restore a backup, or run `sqlite3 FILE .recover`.")


def file_system(folder: Path, mounts: str) -> str:
    """Return the kind of file system of a folder.

    Args:
        folder: an absolute path.
        mounts: the text of /proc/mounts, one per line: device, mount point, kind, and more.
    """
    longest, kind = -1, ""
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:  # noqa: PLR2004 - device, mount point, kind
            continue
        mount_point = parts[1].replace("\\040", " ")
        if folder.is_relative_to(mount_point) and len(mount_point) >= longest:
            longest, kind = len(mount_point), parts[2]
    return kind


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text("utf-8", "replace")
    except OSError:
        return ""


def clock(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Check the clock, and show the budget day; `now` is aware."""
    if now.year < _WRITTEN_IN:
        yield _fail("clock", f"it shows {now:%Y-%m-%d}", "Set the clock: timedatectl set-ntp true")
        return
    local = now.astimezone(settings.timezone)
    day = day_of(now, settings.timezone, settings.day_starts_at)
    yield _ok(
        "clock",
        f"{local:%Y-%m-%d %H:%M:%S} in {settings.timezone.key}; the budget day is {day} "
        f"(it begins at {settings.day_starts_at:%H:%M})",
    )


def cron(environment: Mapping[str, str], settings: Settings) -> Iterator[Finding]:
    """Show what a job under cron needs: it has no terminal, another folder, and almost no environment."""
    if "HOME" not in environment:
        yield _warn(
            "cron",
            "HOME isn't set: your user config and cache are found by the password file",
            "Put HOME=... at the top of the crontab.",
        )
    started = Path(sys.argv[0])
    command = started if started.is_absolute() else Path(sys.executable).with_name("promptkit")
    config = settings.file or "/path/to/promptkit.toml"
    yield _ok("cron", f"use full paths in a crontab: {command} batch ... --config {config} --quiet")
    names = (settings.catalog.provider(name).api_key_env for name in settings.keys.known())
    from_shell = [name for name in names if name is not None and environment.get(name)]
    if from_shell:
        yield _warn(
            "cron",
            f"{', '.join(from_shell)} comes from the environment of this shell, which cron doesn't have",
            "Put it into the env_file of promptkit.toml.",
        )
