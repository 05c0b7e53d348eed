"""The simulator's own pages (bill, journal, script, ports), and the providers' model lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from promptkit.errors import UsageError
from promptkit.simulator import faults
from promptkit.types import JsonObject

from .endpoints import Endpoint, EndpointKind, check_key, find_model, key_of
from .exchange import Simulation
from .formats.base import dumps
from .models import ProviderFamily, SimModel
from .requests import RequestRefused
from .scenario import FaultScript, read_faults

if TYPE_CHECKING:
    from .server import Simulator


async def control(request: web.BaseRequest, simulator: Simulator) -> web.Response:
    """Answer `/_bill`, `/_requests`, `/_faults`, `/_down/PROVIDER`, `/_up/PROVIDER`."""
    script = simulator.simulation.script
    match request.method, request.path:
        case "GET", "/_bill":
            return _json(simulator.bill(lines=request.query.get("lines") != "0"))
        case "GET", "/_requests":
            return _json({"requests": simulator.requests(bodies=request.query.get("bodies") == "1")})
        case (("GET" | "POST" | "DELETE"), "/_faults"):
            return _script(request.method, await request.read(), script)
        case "POST", path if path.startswith(("/_down/", "/_up/")):
            return await _switch(path, simulator)
        case _:
            return not_found(request)


def models(request: web.BaseRequest, endpoint: Endpoint, simulation: Simulation) -> web.Response:
    """Return the list of a provider's models, or one of them."""
    try:
        check_key(endpoint, key_of(request.headers), simulation.scenario.keys)
        if endpoint.kind is EndpointKind.MODELS:
            return _json(
                models_json(endpoint.family, endpoint.provider, simulation.models.of(endpoint.provider))
            )
        model = find_model(endpoint, simulation.models, endpoint.model or "")
        return _json(model_json(endpoint.family, endpoint.provider, model))
    except RequestRefused as refused:
        error = faults.error_response(
            refused.fault, endpoint.family, request_id="req_models", message=refused.message
        )
        return web.Response(status=error.status, body=error.body, content_type=error.content_type)


def not_found(request: web.BaseRequest) -> web.Response:
    """Return a 404."""
    message = f"Invalid URL ({request.method} {request.path})"
    error = faults.error_response("http.404", ProviderFamily.OPENAI, request_id="", message=message)
    return web.Response(status=404, body=error.body, content_type="application/json")


def _script(method: str, body: bytes, script: FaultScript) -> web.Response:
    try:
        if method != "GET":
            script.set(read_faults(json.loads(body)) if method == "POST" else ())
    except (ValueError, UsageError) as error:
        message = error.message if isinstance(error, UsageError) else f"the body is not JSON: {error}"
        return _json({"error": {"message": message, "names": list(faults.names())}}, 400)
    rules = [
        {**asdict(rule), "key": None if rule.key is None else "***", "struck": count}
        for rule, count in zip(script.rules, script.struck, strict=True)
    ]
    return _json({"faults": rules})


async def _switch(path: str, simulator: Simulator) -> web.Response:
    _, action, provider = path.split("/", 2)
    try:
        await (simulator.down(provider) if action == "_down" else simulator.up(provider))
    except UsageError as error:
        return _json({"error": {"message": error.message}}, 400)
    return _json({provider: action.removeprefix("_")})


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=dumps(value), content_type="application/json")


_CREATED = 1_789_000_000


def model_json(family: ProviderFamily, provider: str, model: SimModel) -> JsonObject:
    """Return a model as its provider describes it."""
    match family:
        case ProviderFamily.OPENAI:
            return {"id": model.id, "object": "model", "created": _CREATED, "owned_by": provider}
        case ProviderFamily.ANTHROPIC:
            sizes = {"max_input_tokens": model.context_window, "max_tokens": model.max_output_tokens}
            fields = {"type": "model", "id": model.id, "display_name": model.id, "lifecycle": "active"}
            return {**fields, "created_at": "2026-10-01T00:00:00Z", **sizes}
        case ProviderFamily.GEMINI:
            sizes = {"inputTokenLimit": model.context_window, "outputTokenLimit": model.max_output_tokens}
            methods = ["generateContent", "streamGenerateContent"]
            fields = {"name": f"models/{model.id}", "displayName": model.id, "version": "001"}
            return {**fields, **sizes, "supportedGenerationMethods": methods}


def models_json(family: ProviderFamily, provider: str, models: Sequence[SimModel]) -> JsonObject:
    """Return the list, in one page."""
    listed = [model_json(family, provider, model) for model in models]
    match family:
        case ProviderFamily.OPENAI:
            return {"object": "list", "data": listed}
        case ProviderFamily.ANTHROPIC:
            ids = [model.id for model in models]
            ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
            return {"data": listed, "has_more": False, **ends}
        case ProviderFamily.GEMINI:
            return {"models": listed}
