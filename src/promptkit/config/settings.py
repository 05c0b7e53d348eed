"""What a configuration says, once it is read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

from promptkit.routing.budgets import Budgets
from promptkit.routing.catalog import Catalog
from promptkit.routing.plan import NO_RULES, Rules
from promptkit.types import Route

from .budgets import Rate
from .keys import Keys


class Keep(StrEnum):
    """How much of a text the ledger keeps."""

    FULL = "full"
    HASH = "hash"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of replies and of variables."""

    replies: Keep = Keep.FULL
    variables: Keep = Keep.FULL


@dataclass(frozen=True, slots=True)
class Storage:
    """What the ledger keeps, and for which clients (by the tag `client`) it differs."""

    replies: Keep = Keep.FULL
    variables: Keep = Keep.FULL
    clients: Mapping[str, Kept] = field(default_factory=dict[str, Kept])

    def of(self, tags: Mapping[str, str]) -> Kept:
        """What is kept of a call with these tags."""
        return self.clients.get(tags.get("client", ""), Kept(self.replies, self.variables))


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration. Paths are absolute.

    `file` is None where no config file was found. `templates` are the user's folders (the
    shipped kit stands behind them). `warnings` are to be said once.
    """

    file: Path | None
    root: Path
    database: str
    database_path: Path
    templates: tuple[Path, ...]
    catalog: Catalog
    routes: Mapping[str, Route]
    budgets: Budgets
    timezone: ZoneInfo
    day_starts_at: time
    allow_unpriced: bool
    storage: Storage
    keys: Keys
    rules: Rules = NO_RULES
    clients: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    warnings: tuple[str, ...] = ()
