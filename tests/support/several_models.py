"""A server with several models, each with scripted engines of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from .live import Live, live
from .scripted_engine import ScriptedEngine, scripted_engine

Json = dict[str, Any]


def setting(*models: Json) -> str:
    """Returns MODELS."""
    return json.dumps(models)


class Models:
    """The server, and the engine of each model."""

    def __init__(self, server: Live, engines: dict[str, ScriptedEngine]) -> None:
        self.server = server
        self.engines = engines

    def asked(self, model: str) -> list[Json]:
        """Returns the bodies that the engine of a model has got."""
        return [request.json for request in self.engines[model].requests]


@contextlib.asynccontextmanager
async def several_models(*models: Json, **environment: str) -> AsyncIterator[Models]:
    """Starts a server with these entries of MODELS. An entry without `url` gets an engine."""
    async with contextlib.AsyncExitStack() as stack:
        engines: dict[str, ScriptedEngine] = {}
        entries = []
        for model in models:
            if "url" not in model:
                engine = engines[model["model"]] = await stack.enter_async_context(scripted_engine())
                engine.models = {"object": "list", "data": [{"id": model["model"], "object": "model"}]}
                entries.append({**model, "url": engine.url})
            else:
                entries.append(model)
        server = await stack.enter_async_context(live(MODELS=setting(*entries), **environment))
        yield Models(server, engines)
