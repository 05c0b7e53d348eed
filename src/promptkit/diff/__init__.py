"""Diff: what a new version of a skeleton changes in text, variables, parameters, tokens and cost.

Pure: skeletons, examples and rates in, a `Diff` out.
"""

from .changes import Change, How
from .comparing import Bill, Diff, Offer, Rendering, diff
from .examples import BARE, Example
from .texts import TextDiff

__all__ = ["BARE", "Bill", "Change", "Diff", "Example", "How", "Offer", "Rendering", "TextDiff", "diff"]
