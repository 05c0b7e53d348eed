"""Providers as data: provider files become `Provider` and `Model`, targets find them.

A provider is an address, the name of its key, limits and models; its `adapter` and `api` name
the wire format. A new provider that speaks a known format is a new file, no code.
"""

from __future__ import annotations

from .files import FAMILIES, REJECTABLE, read_provider
from .lookup import Catalog, parse_target
from .trust import VARIABLE_NAME, Place, Trust, host_of, is_loopback, key_refusal, url_problem

__all__ = [
    "FAMILIES",
    "REJECTABLE",
    "VARIABLE_NAME",
    "Catalog",
    "Place",
    "Trust",
    "host_of",
    "is_loopback",
    "key_refusal",
    "parse_target",
    "read_provider",
    "url_problem",
]
