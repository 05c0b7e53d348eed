"""The model lists, in each provider's shape."""

from __future__ import annotations

from collections.abc import Sequence

from promptkit.types import JsonObject

from .models import Family, SimModel

_CREATED = 1_789_000_000


def model_json(family: Family, provider: str, model: SimModel) -> JsonObject:
    """One model, as its provider describes it."""
    match family:
        case Family.OPENAI:
            return {"id": model.id, "object": "model", "created": _CREATED, "owned_by": provider}
        case Family.ANTHROPIC:
            sizes = {"max_input_tokens": model.context_window, "max_tokens": model.max_output_tokens}
            said = {"type": "model", "id": model.id, "display_name": model.id, "lifecycle": "active"}
            return {**said, "created_at": "2026-10-01T00:00:00Z", **sizes}
        case Family.GEMINI:
            sizes = {"inputTokenLimit": model.context_window, "outputTokenLimit": model.max_output_tokens}
            methods = ["generateContent", "streamGenerateContent"]
            said = {"name": f"models/{model.id}", "displayName": model.id, "version": "001"}
            return {**said, **sizes, "supportedGenerationMethods": methods}


def models_json(family: Family, provider: str, models: Sequence[SimModel]) -> JsonObject:
    """The list, in one page."""
    listed = [model_json(family, provider, model) for model in models]
    match family:
        case Family.OPENAI:
            return {"object": "list", "data": listed}
        case Family.ANTHROPIC:
            ids = [model.id for model in models]
            ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
            return {"data": listed, "has_more": False, **ends}
        case Family.GEMINI:
            return {"models": listed}
