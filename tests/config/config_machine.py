"""A machine of one's own: a home, a project, an environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from promptkit.config.loading import load
from promptkit.config.settings import Settings
from promptkit.errors import ConfigError


class Machine:
    """A home and a project on disk, and `load` in them."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = folder / "project"
        self.own = self.home / ".config" / "promptkit"
        self.project.mkdir(parents=True)
        self.own.mkdir(parents=True)

    def write(self, name: str, text: str, *, mode: int = 0o600) -> Path:
        """Write a file of the project."""
        file = self.project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        file.chmod(mode)
        return file

    def configure(self, text: str) -> Path:
        """Write the project's promptkit.toml."""
        return self.write("promptkit.toml", text)

    def trust(self, text: str) -> Path:
        """Write the user's own promptkit.toml."""
        file = self.own / "promptkit.toml"
        file.write_text(text, "utf-8")
        return file

    def load(
        self, env: Mapping[str, str] | None = None, path: Path | None = None, cwd: Path | None = None
    ) -> Settings:
        """Load as a process in the project's folder would."""
        return load(path, env=env or {}, cwd=cwd or self.project, home=self.home)

    def refused(self, text: str) -> ConfigError:
        """Load a project's config that can't stand."""
        self.configure(text)
        with pytest.raises(ConfigError) as caught:
            self.load()
        return caught.value
