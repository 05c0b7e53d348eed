"""A folder of wheels for pip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from promptkit.providers.local_weights import Pin


@dataclass(frozen=True)
class Index:
    """A folder of wheels that pip finds, and an environment in which it looks nowhere else."""

    folder: Path
    env: dict[str, str]
    pin: Pin

    @property
    def cached(self) -> Path:
        return self.folder.parent / "cache" / "promptkit" / self.pin.member
