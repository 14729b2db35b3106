"""The FastAPI routes: models, tools, health, metrics and the API page. Errors have OpenAI's format.

The routes take a request and return a response. For other annotations FastAPI builds models and loads
pydantic.v1, which together take 1.4 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from .. import __version__
from ..engine.fleet import Fleets
from ..errors import ApiError, NotFound
from ..protocol import JsonObject
from ..telemetry import Telemetry
from ..tools.mcp.state import ServerState
from ..tools.toolbox import Toolbox
from .by_model import ROUTES, serving
from .chat_page import add_chat_page
from .described import json_answer
from .docs_page import add_docs_page
from .model_routes import add_model_routes, readiness
from .usage import UsageReport, add_usage_route


def build_routes(
    *,
    fleets: Fleets,
    toolbox: Toolbox,
    telemetry: Telemetry,
    mcp_servers: Callable[[], Sequence[ServerState]],
    usage: UsageReport,
    needs_key: bool,
    serves_mcp: bool,
    pages: bool,
) -> FastAPI:
    """Builds all routes except the POST routes.

    Args:
        pages: whether to serve the chat page and the API page.
        takes_images, needs_key, serves_mcp: whether the model accepts images, clients need a key, and clients
            of MCP have a route, which is reported.
    """
    app = FastAPI(
        title="Tandem",
        summary="OpenAI-compatible chat with tools that the server runs.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )
    if pages:
        add_chat_page(app)
        add_docs_page(app)
    add_model_routes(app, fleets)
    _add_state_routes(app, fleets, telemetry, mcp_servers)
    add_usage_route(app, usage)

    @app.get(
        "/v1/tools",
        tags=["tools"],
        summary="The tools that the server runs, and the MCP server of each, if any",
        responses={200: json_answer("The tools", {"type": "array", "items": {"type": "object"}})},
    )
    async def list_tools() -> Response:
        return JSONResponse(toolbox.listing())

    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    served = {route for route in ROUTES if serving(route, fleets)} if fleets.named else None
    _complete_description(app, toolbox, served, needs_key=needs_key, serves_mcp=serves_mcp)
    return app


def _complete_description(
    app: FastAPI, toolbox: Toolbox, served: Container[str] | None, *, needs_key: bool, serves_mcp: bool
) -> None:
    build_schema = app.openapi

    def openapi() -> JsonObject:
        from .documentation import complete  # saves memory in a server whose description nobody reads

        tools = sorted(toolbox.names)
        return complete(
            build_schema(), needs_key=needs_key, serves_mcp=serves_mcp, tools=tools, served=served
        )

    app.openapi = openapi  # type: ignore[method-assign]


def _add_state_routes(
    app: FastAPI,
    fleets: Fleets,
    telemetry: Telemetry,
    mcp_servers: Callable[[], Sequence[ServerState]],
) -> None:
    @app.get(
        "/health",
        tags=["state"],
        summary="Whether this process is alive",
        responses={200: json_answer("It is")},
    )
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get(
        "/ready",
        tags=["state"],
        summary="Whether an engine of any model answers",
        responses={200: json_answer("An engine answers"), 503: json_answer("No engine answers")},
    )
    async def ready() -> Response:
        body = readiness(fleets)
        status = 200 if body["status"] == "ready" else 503
        if states := mcp_servers():
            body["mcp_servers"] = {state.name: _shown(state) for state in states}
        return JSONResponse(body, status_code=status)

    @app.get(
        "/metrics",
        tags=["state"],
        summary="Metrics in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def metrics() -> Response:
        return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4")


def _shown(state: ServerState) -> JsonObject:
    shown: JsonObject = {"up": state.up, "tools": state.tools}
    more = {"version": state.version, "reason": state.reason, "left_out": list(state.left_out)}
    return shown | {name: value for name, value in more.items() if value}


async def _answer_error(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # for a path that only this server's router matches
        error = NotFound(f"There is nothing at this path: {error.detail}")
    assert isinstance(error, ApiError)
    body = orjson.dumps(error.body())
    return Response(body, error.status, headers=error.headers, media_type="application/json")
