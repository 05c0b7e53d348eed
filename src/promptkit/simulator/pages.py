"""The pages that are no provider's: bill, journal, script; and the model lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from promptkit.errors import UsageError
from promptkit.simulator import faults
from promptkit.types import JsonObject

from .exchange import World
from .formats.base import dumps
from .models import Family, SimModel
from .requests import Refused
from .routes import Action, Place, check_key, find_model, key_of
from .scenario import Script, read_faults

if TYPE_CHECKING:
    from .server import Simulator


async def own(request: web.BaseRequest, simulator: Simulator) -> web.Response:
    """`/_bill`, `/_requests`, `/_faults`, `/_down/PROVIDER`, `/_up/PROVIDER`."""
    script = simulator.world.script
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
            return not_served(request)


def models(request: web.BaseRequest, place: Place, world: World) -> web.Response:
    """The list of a provider's models, or one of them."""
    try:
        check_key(place, key_of(request.headers), world.scenario.keys)
        if place.action is Action.MODELS:
            return _json(models_json(place.family, place.provider, world.models.of(place.provider)))
        model = find_model(place, world.models, place.model or "")
        return _json(model_json(place.family, place.provider, model))
    except Refused as refused:
        error = faults.error_reply(
            refused.fault, place.family, request_id="req_models", message=refused.message
        )
        return web.Response(status=error.status, body=error.body, content_type=error.content_type)


def not_served(request: web.BaseRequest) -> web.Response:
    """A path that means nothing here."""
    message = f"Invalid URL ({request.method} {request.path})"
    error = faults.error_reply("http.404", Family.OPENAI, request_id="", message=message)
    return web.Response(status=404, body=error.body, content_type="application/json")


def _script(method: str, body: bytes, script: Script) -> web.Response:
    try:
        if method != "GET":
            script.set(read_faults(json.loads(body)) if method == "POST" else ())
    except (ValueError, UsageError) as error:
        what = error.message if isinstance(error, UsageError) else f"the body is not JSON: {error}"
        return _json({"error": {"message": what, "names": list(faults.names())}}, 400)
    rules = [
        {**asdict(rule), "key": None if rule.key is None else "***", "struck": struck}
        for rule, struck in zip(script.rules, script.struck, strict=True)
    ]
    return _json({"faults": rules})


async def _switch(path: str, simulator: Simulator) -> web.Response:
    _, what, provider = path.split("/", 2)
    try:
        await (simulator.down(provider) if what == "_down" else simulator.up(provider))
    except UsageError as error:
        return _json({"error": {"message": error.message}}, 400)
    return _json({provider: what.removeprefix("_")})


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=dumps(value), content_type="application/json")


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
