"""The paths of the config file, of the user's own folders and of what the package ships."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from promptkit.errors import ConfigError

from .keys import Origin

FILE_NAME = "promptkit.toml"
VARIABLE = "PROMPTKIT_CONFIG"
_PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """Return the path of `providers`, `templates` or `config.example.toml` of the distribution.

    A wheel has them inside the package, an editable install at the root of the repository.

    Raises:
        ConfigError: the installation does not have it.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parents[1]):
        if (root / name).exists():
            return root / name
    raise ConfigError(
        f"this installation of promptkit lacks its {name}", remedy="Install promptkit-router again."
    )


def cache_folder(env: Mapping[str, str] | None = None, home: Path | None = None) -> Path:
    """Return the user's cache folder of promptkit; its contents can be made again.

    Args:
        env: the environment; by default that of this process.
        home: the user's home; by default that of this user.
    """
    return UserFolders.of(os.environ if env is None else env, Path.home() if home is None else home).cache


@dataclass(frozen=True, slots=True)
class UserFolders:
    """The user's own folders, by the XDG base directory specification."""

    config: Path
    data: Path
    cache: Path

    @classmethod
    def of(cls, env: Mapping[str, str], home: Path) -> UserFolders:
        """Find them; a relative XDG path is ignored, as the specification says."""
        return cls(
            config=_xdg(env, "XDG_CONFIG_HOME", home / ".config") / "promptkit",
            data=_xdg(env, "XDG_DATA_HOME", home / ".local" / "share") / "promptkit",
            cache=_xdg(env, "XDG_CACHE_HOME", home / ".cache") / "promptkit",
        )

    @property
    def config_file(self) -> Path:
        """The user config."""
        return self.config / FILE_NAME

    def origin(self, file: Path) -> Origin:
        """Return whether a config file is the user's own or a project's.

        The folder decides, because paths start from it: a link in a project to the user's file
        is the project's.
        """
        own = file.name == FILE_NAME and file.parent.resolve() == self.config.resolve()
        return Origin.USER if own else Origin.PROJECT


def _xdg(env: Mapping[str, str], variable: str, default: Path) -> Path:
    given = Path(env.get(variable, ""))
    return given if given.is_absolute() else default


def find_config(path: Path | None, env: Mapping[str, str], cwd: Path, user: UserFolders) -> Path | None:
    """Find the config file to use; None if there is none.

    It is what `--config` names, else what `PROMPTKIT_CONFIG` names, else the nearest
    `promptkit.toml` of this folder and its parents, else the user's own.

    Raises:
        ConfigError: a file that was named does not exist, or the nearest one belongs to somebody else.
    """
    if path is not None:
        return _named(cwd / path, "--config")
    if env.get(VARIABLE):
        return _named(cwd / env[VARIABLE], VARIABLE)
    for file in _candidates(cwd, user):
        if _exists(file):
            return _own(file)
    return None


def _exists(file: Path) -> bool:
    """Return whether a file exists. One that can't be examined is an error: it may set caps."""
    try:
        return file.is_file()
    except OSError as cause:
        raise ConfigError(
            f"can't be examined: {cause.strerror}",
            file=file,
            remedy="Run promptkit in another folder, or name the file: --config FILE",
        ) from None


def _candidates(cwd: Path, user: UserFolders) -> Iterator[Path]:
    for folder in (cwd, *cwd.parents):
        yield folder / FILE_NAME
    yield user.config_file


def _named(file: Path, by: str) -> Path:
    if not file.is_file():
        raise ConfigError(
            f"{by} names a file that does not exist",
            file=file,
            remedy="Run promptkit init to create a project with a config file.",
        )
    return file


def _own(file: Path) -> Path:
    """Refuse a file that another user left in a shared folder: it would control our calls."""
    if file.stat().st_uid not in {os.getuid(), 0}:
        raise ConfigError(
            "this file is in a parent folder and belongs to another user",
            file=file,
            remedy=f"To use it nevertheless, name it: --config {file}",
        )
    return file
