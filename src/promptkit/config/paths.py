"""Where files lie: the config file, the user's own folders, what the package ships."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promptkit.errors import ConfigError

from .keys import Place

FILE_NAME: Final = "promptkit.toml"


VARIABLE: Final = "PROMPTKIT_CONFIG"


_PACKAGE = Path(__file__).parents[1]


def shipped(what: str) -> Path:
    """Where `providers`, `templates` or `config.example.toml` of the distribution lie.

    A wheel carries them inside the package; an editable install, which ignores that, has them
    at the root of the repository.

    Raises:
        ConfigError: the installation lacks it.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parents[1]):
        if (root / what).exists():
            return root / what
    raise ConfigError(
        f"this installation of promptkit lacks its {what}", remedy="Install promptkit-router again."
    )


def cache_folder(env: Mapping[str, str] | None = None, home: Path | None = None) -> Path:
    """The user's cache folder of promptkit; what lies in it can be made again.

    Args:
        env: the environment; this process's own where it is None.
        home: the user's home; this user's where it is None.
    """
    return Home.of(os.environ if env is None else env, Path.home() if home is None else home).cache


@dataclass(frozen=True, slots=True)
class Home:
    """The user's own folders, by the XDG base directory specification."""

    config: Path
    data: Path
    cache: Path

    @classmethod
    def of(cls, env: Mapping[str, str], home: Path) -> Home:
        """Find them; a relative XDG path is void, as the specification says."""
        return cls(
            config=_xdg(env, "XDG_CONFIG_HOME", home / ".config") / "promptkit",
            data=_xdg(env, "XDG_DATA_HOME", home / ".local" / "share") / "promptkit",
            cache=_xdg(env, "XDG_CACHE_HOME", home / ".cache") / "promptkit",
        )

    @property
    def config_file(self) -> Path:
        """The user's own config file."""
        return self.config / FILE_NAME

    def place(self, file: Path) -> Place:
        """Whose a config file is: the user's own one, or some project's.

        The folder decides, since paths start from it: a link to the user's file that lies in a
        project is the project's.
        """
        own = file.name == FILE_NAME and file.parent.resolve() == self.config.resolve()
        return Place.OWN if own else Place.PROJECT


def _xdg(env: Mapping[str, str], variable: str, default: Path) -> Path:
    given = Path(env.get(variable, ""))
    return given if given.is_absolute() else default


def find_config(path: Path | None, env: Mapping[str, str], cwd: Path, home: Home) -> Path | None:
    """Find the config file to use; None where there is none.

    It is what `--config` names, else what `PROMPTKIT_CONFIG` names, else the nearest
    `promptkit.toml` of this folder and its parents, else the user's own.

    Raises:
        ConfigError: a file that was named isn't there; one that was found belongs to somebody else.
    """
    if path is not None:
        return _named(cwd / path, "--config")
    if env.get(VARIABLE):
        return _named(cwd / env[VARIABLE], VARIABLE)
    for found in _candidates(cwd, home):
        if _is_there(found):
            return _ours(found)
    return None


def _is_there(file: Path) -> bool:
    """Whether there is such a file. One that can't be looked at may hold caps: it is not passed over."""
    try:
        return file.is_file()
    except OSError as cause:
        raise ConfigError(
            f"can't be looked at: {cause.strerror}",
            file=file,
            remedy="Call it from another folder, or name the file: --config FILE",
        ) from None


def _candidates(cwd: Path, home: Home) -> Iterator[Path]:
    for folder in (cwd, *cwd.parents):
        yield folder / FILE_NAME
    yield home.config_file


def _named(file: Path, by: str) -> Path:
    if not file.is_file():
        raise ConfigError(
            f"{by} names a file that isn't there",
            file=file,
            remedy="promptkit init makes a project with its config file.",
        )
    return file


def _ours(file: Path) -> Path:
    """Refuse a file that another user left in a shared folder: it would steer our calls."""
    if file.stat().st_uid not in {os.getuid(), 0}:
        raise ConfigError(
            "found on the way up from this folder, but it belongs to another user",
            file=file,
            remedy=f"To use it all the same, name it: --config {file}",
        )
    return file
