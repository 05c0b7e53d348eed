"""promptkit: prompt templates kept in git, turned into finished text.

from promptkit import PromptKit

kit = PromptKit()
reply = kit.run("ugc/hooks", {"brand": "Barly", "product": "protein bar", "audience": "runners"})
print(reply.text, reply.cost)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptkit.batch.job import JobReport
    from promptkit.batch.quote import Quote
    from promptkit.client.blocking import BlockingJob, PromptKit
    from promptkit.client.jobs import AsyncJob
    from promptkit.client.kit import AsyncPromptKit
    from promptkit.client.options import BatchOptions, CallOptions, RouteOptions, RunOptions
    from promptkit.client.streams import AsyncReplyStream, ReplyStream
    from promptkit.errors import PromptKitError, StreamCut
    from promptkit.types import Attempt, Cost, Prompt, Reply, RowResult, Status, Target, Usage

__all__ = [
    "AsyncJob",
    "AsyncPromptKit",
    "AsyncReplyStream",
    "Attempt",
    "BatchOptions",
    "BlockingJob",
    "CallOptions",
    "Cost",
    "JobReport",
    "Prompt",
    "PromptKit",
    "PromptKitError",
    "Quote",
    "Reply",
    "ReplyStream",
    "RouteOptions",
    "RowResult",
    "RunOptions",
    "Status",
    "StreamCut",
    "Target",
    "Usage",
]

_MODULES = {
    "AsyncJob": "client.jobs",
    "AsyncPromptKit": "client.kit",
    "AsyncReplyStream": "client.streams",
    "BatchOptions": "client.options",
    "BlockingJob": "client.blocking",
    "CallOptions": "client.options",
    "JobReport": "batch.job",
    "PromptKit": "client.blocking",
    "PromptKitError": "errors",
    "Quote": "batch.quote",
    "ReplyStream": "client.streams",
    "RouteOptions": "client.options",
    "RunOptions": "client.options",
    "StreamCut": "errors",
}
"""The module of each name; every other name is in `types`."""


def __getattr__(name: str) -> Any:
    """Load a name when it is first used, because `import promptkit` must be fast."""
    if name not in __all__:
        raise AttributeError(f"module 'promptkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES.get(name, 'types')}", __name__), name)
