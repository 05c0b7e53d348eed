"""The embedded model: SmolLM2-135M-Instruct, in this process, with no network and no key."""

from __future__ import annotations

from .weights import SMOLLM2, LocalModelError, Pin, Report, fetch, weights_path

__all__ = ["SMOLLM2", "LocalModelError", "Pin", "Report", "fetch", "weights_path"]
