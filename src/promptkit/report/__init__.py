"""What was spent, on what, and what it brought in: the books added up."""

from __future__ import annotations

from .folding import Report, Total, Yield, fold
from .making import DIMENSIONS, Asked, make_report

__all__ = ["DIMENSIONS", "Asked", "Report", "Total", "Yield", "fold", "make_report"]
