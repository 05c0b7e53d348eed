"""What a job pins at its first start, as the ledger keeps it and gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from promptkit.catalog import parse_target
from promptkit.ledger import JobRecord
from promptkit.templates import Skeleton
from promptkit.types import Json, OnContent, Params, Route


@dataclass(frozen=True, slots=True)
class Pinned:
    """A job and what it runs, from its first start on.

    `detours` are the routes over which rules may send single rows, by name; None where the user
    named a route: then rules only forbid.
    """

    job: JobRecord
    skeleton: Skeleton
    route: Route
    detours: Mapping[str, Route] | None = None


def plain_route(route: Route) -> dict[str, Json]:
    """A route as JSON."""
    return {
        "name": route.name,
        "targets": [str(target) for target in route.targets],
        "strategy": route.strategy,
        "attempts": route.attempts,
        "patience_s": route.patience_s,
        "outage_s": route.outage_s,
        "last_resort": None if route.last_resort is None else str(route.last_resort),
        "on_content": route.on_content.value,
        "max_output_tokens": route.max_output_tokens,
        "weights": list(route.weights),
        "cache_s": route.cache_s,
    }


def plain_detours(detours: Mapping[str, Route] | None) -> Json:
    """The routes of the rules as JSON, None for none."""
    return None if detours is None else {name: plain_route(route) for name, route in detours.items()}


def pinned_route(job: JobRecord) -> Route:
    """The route that a job began with."""
    return _route(cast("Mapping[str, Any]", job.options["route"]))


def pinned_detours(job: JobRecord) -> Mapping[str, Route] | None:
    """The routes that rules named when it began."""
    told = cast("Mapping[str, Mapping[str, Any]] | None", job.options.get("detours"))
    return None if told is None else {name: _route(route) for name, route in told.items()}


def _route(told: Mapping[str, Any]) -> Route:
    last = told["last_resort"]
    return Route(
        name=told["name"],
        targets=tuple(parse_target(text) for text in told["targets"]),
        strategy=told["strategy"],
        attempts=told["attempts"],
        patience_s=told["patience_s"],
        outage_s=told["outage_s"],
        last_resort=None if last is None else parse_target(last),
        on_content=OnContent(told["on_content"]),
        max_output_tokens=told["max_output_tokens"],
        weights=tuple(told.get("weights", ())),
        cache_s=told.get("cache_s"),
    )


def plain_params(params: Params) -> dict[str, Json]:
    """The parameters that are set, as JSON."""
    told: dict[str, Json] = {
        "max_output_tokens": params.max_output_tokens,
        "reasoning": None if params.reasoning is None else params.reasoning.value,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "seed": params.seed,
        "stop": list(params.stop) or None,
    }
    return {name: value for name, value in told.items() if value is not None}
