"""Configuration: `promptkit.toml`, provider files, keys and the environment become `Settings`.

See docs/config.md for every key and for the rules about keys and hosts.
"""

from __future__ import annotations

from promptkit.routing.budgets import Budgets

from .clients import Per, Rate
from .keys import Keys
from .loading import load
from .places import FILE_NAME, cache_folder, shipped
from .settings import Keep, Kept, Settings, Storage

__all__ = [
    "FILE_NAME",
    "Budgets",
    "Keep",
    "Kept",
    "Keys",
    "Per",
    "Rate",
    "Settings",
    "Storage",
    "cache_folder",
    "load",
    "shipped",
]
