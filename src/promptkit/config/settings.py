"""A configuration that was read and checked."""

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
    """How much of replies and variables the ledger keeps."""

    replies: Keep = Keep.FULL
    variables: Keep = Keep.FULL


@dataclass(frozen=True, slots=True)
class Storage:
    """What the ledger keeps, and the clients (by the tag `client`) with their own rules."""

    replies: Keep = Keep.FULL
    variables: Keep = Keep.FULL
    clients: Mapping[str, Kept] = field(default_factory=dict[str, Kept])

    def of(self, tags: Mapping[str, str]) -> Kept:
        """Return what the ledger keeps of a call with these tags."""
        return self.clients.get(tags.get("client", ""), Kept(self.replies, self.variables))


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration. Paths are absolute.

    `file` is None if there is no config file. `templates` are the user's folders (the shipped kit
    comes after them). `warnings` are to be shown once.
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
