"""Lint: what is wrong with a skeleton before it is ever sent. Pure: skeletons, catalog and prices in.

    findings = lint(skeleton, World(catalog, prices, route, at))

A family of rules stands in a module; `RULES` has all of them by code.
"""

from .findings import Finding, Rule, Severity, Spot, World
from .linting import lint
from .loading import from_error
from .rules import RULES

__all__ = ["RULES", "Finding", "Rule", "Severity", "Spot", "World", "from_error", "lint"]
