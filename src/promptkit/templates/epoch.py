"""The rendering epoch: one number for all the rules that turn a source and its values into text.

It stands in front of every seal. What it covers is in `environment.SETTINGS`, the names of the
filters, tests and globals, and Jinja's own version; a test holds their fingerprint, so that a
change which could alter a rendering can't slip in without a new number.
"""

from __future__ import annotations

from typing import Final

EPOCH: Final = 1
