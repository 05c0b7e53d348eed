"""promptkit: prompt templates kept in git, turned into finished text.

from promptkit import PromptKit

kit = PromptKit()
reply = kit.run("ugc/hooks", {"brand": "Barly", "product": "protein bar", "audience": "runners"})
print(reply.text, reply.cost)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from promptkit.batch.quote import Quote
    from promptkit.client.blocking import PromptKit
    from promptkit.client.jobs import AsyncJob
    from promptkit.client.kit import AsyncPromptKit
    from promptkit.client.streams import AsyncReplyStream, ReplyStream
    from promptkit.errors import PromptKitError, StreamCut
    from promptkit.types import Attempt, Cost, Prompt, Reply, RowResult, Status, Target, Usage

__all__ = [
    "AsyncJob",
    "AsyncPromptKit",
    "AsyncReplyStream",
    "Attempt",
    "Cost",
    "Prompt",
    "PromptKit",
    "PromptKitError",
    "Quote",
    "Reply",
    "ReplyStream",
    "RowResult",
    "Status",
    "StreamCut",
    "Target",
    "Usage",
]

_ROOMS: Final = {
    "AsyncJob": "client.jobs",
    "AsyncPromptKit": "client.kit",
    "AsyncReplyStream": "client",
    "PromptKit": "client.blocking",
    "PromptKitError": "errors",
    "Quote": "batch.quote",
    "ReplyStream": "client.streams",
    "StreamCut": "errors",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: `import promptkit` alone costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'promptkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_ROOMS.get(name, 'types')}", __name__), name)
