"""The library's face: what a script holds, for asyncio (`kit`) and for those who block (`blocking`).

It says nothing of its own about a call or a job: it reads what a script tells, and hands on to
the rooms below. Each name is loaded when it is first used, so that one of them costs no other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .asking import cap_of
    from .batches import AsyncJob, BatchOptions, RunOptions
    from .blocking import BlockingJob, PromptKit
    from .kit import AsyncPromptKit
    from .streams import AsyncReplyStream, ReplyStream

__all__ = [
    "AsyncJob",
    "AsyncPromptKit",
    "AsyncReplyStream",
    "BatchOptions",
    "BlockingJob",
    "PromptKit",
    "ReplyStream",
    "RunOptions",
    "cap_of",
]

_MODULES: Final = {
    "AsyncJob": ".batches",
    "AsyncPromptKit": ".kit",
    "AsyncReplyStream": ".streams",
    "BatchOptions": ".batches",
    "BlockingJob": ".blocking",
    "PromptKit": ".blocking",
    "ReplyStream": ".streams",
    "RunOptions": ".batches",
    "cap_of": ".asking",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
