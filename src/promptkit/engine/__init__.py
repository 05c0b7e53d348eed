"""The one driver of a flow: it brings the ledger, the network, the clock and the dice together.

For each step that the flow decides on, an attempt and its hold are committed, the request is
sent, the reply read and priced, and the attempt closed together with its settlement.
"""

from __future__ import annotations

from .driver import Engine
from .words import Edge, Made, Work

__all__ = ["Edge", "Engine", "Made", "Work"]
