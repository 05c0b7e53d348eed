"""What OpenAI's two formats have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptkit.simulator.models import Family
from promptkit.simulator.requests import Body

from .base import inner, invalid, schema_problem


def schema_of(form: Body, where: str) -> Mapping[str, Any] | None:
    """The JSON schema that is asked for; a strict one must be closed and all required."""
    schema = form.get("schema")
    if schema is not None and form.get("strict"):
        problem = schema_problem(schema, all_required=True)
        if problem:
            message = f"Invalid schema for {where} {form.get('name')!r}: {problem}"
            raise invalid(Family.OPENAI, message, f"{where}.schema", "invalid_json_schema")
    return schema


def tier_of(body: Body) -> str | None:
    """The tier that would serve it; None is the default one."""
    tier = body.get("service_tier")
    return tier if tier in ("flex", "priority", "fast", "batch") else None


def caches(body: Body) -> bool:
    """Whether the implicit cache breakpoint is on."""
    return inner(body, "prompt_cache_options").get("mode") != "explicit"
