"""The one driver of a flow: it brings the ledger, the network, the clock and the dice together.

For each step that the flow decides on, an attempt and its hold are committed, the request is
sent, the reply read and priced, and the attempt closed together with its settlement.

The words load at once; `Engine`, and with it all that it drives, when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .judging import Judge, judge_of, judge_text
from .words import Edge, Made, Work

if TYPE_CHECKING:
    from .driver import Engine

__all__ = ["Edge", "Engine", "Judge", "Made", "Work", "judge_of", "judge_text"]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from .driver import Engine

        return Engine
    raise AttributeError(name)
