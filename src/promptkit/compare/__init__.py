"""One skeleton on each: the same rows by several targets or versions, side by side.

Each column is a job of its own, so that a comparison stops, goes on and pays like any batch.
"""

from .columns import Column, columns_of
from .figures import Cell, Comparison, Figures, Line, Side, best, figures, shown
from .running import TAG, Comparing, Offer, Options

__all__ = [
    "TAG",
    "Cell",
    "Column",
    "Comparing",
    "Comparison",
    "Figures",
    "Line",
    "Offer",
    "Options",
    "Side",
    "best",
    "columns_of",
    "figures",
    "shown",
]
