"""Which models there are, and the state of each: `/v1/models`, and a part of `/ready`."""

from __future__ import annotations

import math
import time

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from ..engine.discovery import Discovery
from ..engine.fleet import Fleet, Fleets, unknown_model
from ..protocol import JsonObject
from .described import json_answer

_MODEL_LIST = {
    "object": {"const": "list"},
    "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
}
_MODEL_PARAMETER = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}


def add_model_routes(app: FastAPI, fleets: Fleets) -> None:
    """Adds the routes that list models."""
    started = int(time.time())

    @app.get(
        "/v1/models",
        tags=["models"],
        summary="The models, also while their engines sleep; always 200",
        responses={200: json_answer("The models", {"type": "object", "properties": _MODEL_LIST})},
    )
    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": models(fleets, started)})

    @app.get(
        "/v1/models/{model:path}",
        tags=["models"],
        summary="One model",
        responses={
            200: json_answer("The model", {"$ref": "#/components/schemas/Model"}),
            404: json_answer("The model does not exist", {"$ref": "#/components/schemas/Error"}),
        },
        openapi_extra={"parameters": [_MODEL_PARAMETER]},
    )
    async def get_model(request: Request) -> Response:
        model = request.path_params["model"]
        known = {entry["id"]: entry for entry in models(fleets, started)}
        if model not in known:
            raise unknown_model(model, known)
        return JSONResponse(known[model])


def models(fleets: Fleets, created: int) -> list[JsonObject]:
    """Returns all models. Several are listed with their aliases and adapters, as configured.

    Args:
        created: the Unix time of models of which no engine has answered yet.
    """
    if fleets.named:
        return [one for fleet in fleets for one in _of_fleet(fleet, created)]
    fleet = fleets.first
    listed = fleet.discovery.models or [_configured(fleet.settings.model, created)]
    return [{**model, "tandem": _state_and_abilities(fleet)} for model in listed]


def _of_fleet(fleet: Fleet, created: int) -> list[JsonObject]:
    settings, state = fleet.settings, {**_state_and_abilities(fleet), "kind": fleet.settings.kind}
    of_engine = {str(one.get("id")): one for one in fleet.discovery.models or () if isinstance(one, dict)}
    model = {**_configured(settings.model, created), **of_engine.get(settings.model, {}), "tandem": state}
    adapters = [
        {"parent": settings.model, **_configured(name, created), **of_engine.get(name, {}), "tandem": state}
        for name in sorted(fleet.adapters)
    ]
    aliases = [
        {**model, "id": name, "tandem": {**state, "alias_of": settings.model}} for name in settings.aliases
    ]
    return [model, *aliases, *adapters]


def _state_and_abilities(fleet: Fleet) -> JsonObject:
    return state_of(fleet.discovery) | ({"takes_images": True} if fleet.settings.sees_images else {})


def _configured(name: str, created: int) -> JsonObject:
    return {"id": name, "object": "model", "created": created, "owned_by": "tandem"}


def readiness(fleets: Fleets) -> JsonObject:
    """Returns whether requests can be answered: of several models, by any of them."""
    if not fleets.named:
        return _readiness(fleets.first)
    of_models = {fleet.entry: _readiness(fleet) for fleet in fleets}
    ready = any(one["status"] == "ready" for one in of_models.values())
    return {"status": "ready" if ready else "not ready", "models": of_models}


def _readiness(fleet: Fleet) -> JsonObject:
    reason = fleet.discovery.why_not_ready()
    status: JsonObject = {"status": "ready"} if reason is None else {"status": "not ready", "reason": reason}
    # unknown: the model's control tokens are guessed.
    return {**status, **state_of(fleet.discovery), "control_tokens": fleet.control_tokens.source}


def state_of(discovery: Discovery) -> JsonObject:
    """Returns the state of a model's engines and, if none is up, how long a start takes in seconds."""
    state, starts = discovery.state(), discovery.starts
    if state in ("ready", "down"):
        return {"state": state}
    expected = {"expected_seconds": math.ceil(starts.expected_seconds)} if starts.on_demand else {}
    if state == "starting":
        if report := starts.report_of_engine:
            return {"state": state, **expected, **report}
        expected["remaining_seconds"] = math.ceil(starts.remaining_seconds)
    return {"state": state, **expected}
