"""What OpenAI's two formats share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptkit.simulator.models import ProviderFamily
from promptkit.simulator.requests import Body

from .base import inner, invalid, schema_problem


def schema_of(form: Body, where: str) -> Mapping[str, Any] | None:
    """Return the requested JSON schema; a strict one must be closed, with all fields required."""
    schema = form.get("schema")
    if schema is not None and form.get("strict"):
        problem = schema_problem(schema, all_required=True)
        if problem:
            message = f"Invalid schema for {where} {form.get('name')!r}: {problem}"
            raise invalid(ProviderFamily.OPENAI, message, f"{where}.schema", "invalid_json_schema")
    return schema


def tier_of(body: Body) -> str | None:
    """Return the service tier; None is the default one."""
    tier = body.get("service_tier")
    return tier if tier in ("flex", "priority", "fast", "batch") else None


def caches(body: Body) -> bool:
    """Return whether the implicit cache breakpoint is on."""
    return inner(body, "prompt_cache_options").get("mode") != "explicit"
