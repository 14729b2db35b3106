"""Wires the service. Only this module knows all of its parts."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .api.asgi import asgi_endpoints
from .api.auth import Keys
from .api.by_model import ENGINE_PATHS, FORM_ROUTES, ROUTES, ByModel, serving
from .api.chat import Chat
from .api.endpoint import Endpoint
from .api.error_format import ANTHROPIC_ERRORS, OPENAI_ERRORS, ErrorFormat
from .api.in_flight import Bulkhead, InFlight
from .api.mcp import MCP_ERRORS, McpRoute
from .api.messages.route import CountTokens, Messages
from .api.preflight import Preflight
from .api.relay import Relay
from .api.reply import Reply
from .api.request import Handler, Request
from .api.responses.archive import Archive, open_store
from .api.responses.route import Responses
from .api.responses.stored_route import StoredResponses
from .api.router import Router, not_found
from .api.routes import build_routes
from .api.usage import UsageReport
from .chat.loop import ChatLoop
from .chat.markup import rescue_for
from .emf import Emf
from .engine.fleet import Fleet, Fleets
from .errors import SettingsError
from .limits.accounts import Accounts
from .limits.rules import Limits
from .limits.sync import Sync
from .limits.table import Table
from .limits.usage import Usage
from .memory import Budget, default_budget
from .model_settings import CHAT_KINDS
from .settings import Settings
from .telemetry import Telemetry
from .tools.calculator import calculate_math
from .tools.database import Database
from .tools.mcp.requested import RequestServers
from .tools.mcp.servers import McpServers
from .tools.toolbox import Toolbox, load_tools
from .tools.weather import Weather

if TYPE_CHECKING:
    from .traces.tracer import Tracer


class Orchestrator:
    """The service: its routes and what they need."""

    def __init__(self, settings: Settings) -> None:
        telemetry = self.telemetry = Telemetry(
            log_content=settings.log_content, models=[one.model for one in settings.models]
        )
        self._budget = Budget(settings.memory_budget_bytes or default_budget())
        self.in_flight = InFlight(settings.max_in_flight, self._budget)
        self._accounts = _accounts(settings)
        self._usage = Usage()
        self._keys = Keys(settings, self._accounts)
        self._fleets = Fleets(settings, telemetry, self._budget)
        self._accounts.aliases = self._fleets.aliases
        self._sync = self._build_sync(settings)
        telemetry.watch_engines(self._fleets.states)
        telemetry.watch_load(self._fleets.loads)
        self._emf = self._emf_writer(settings)
        self._weather = Weather(
            source=settings.weather_source,
            forecast_url=settings.weather_url,
            geocoding_url=settings.geocoding_url,
        )
        url = settings.database_url
        self._database = Database(
            url.get_secret_value() if url else None, tables=settings.database_tables or None
        )
        self._archive = Archive(
            open_store(
                settings.store_of_responses,
                seconds=settings.responses_seconds,
                limit=settings.responses_bytes,
            )
        )
        self._toolbox = self._build_toolbox(settings)
        self._tracer = self._build_tracer(settings)
        telemetry.watch_tools(lambda: self._toolbox.hung)
        self._use_mcp(settings)
        self.router = self._build_router(settings)

    @property
    def tool_names(self) -> frozenset[str]:
        """The names of the tools that the server runs."""
        return frozenset(self._toolbox.names)

    async def start(self) -> None:
        """Starts the clients.

        Raises:
            SettingsError: a setting cannot be used.
        """
        await self._keys.start()
        if self._sync is not None:
            await self._sync.start()
        await asyncio.to_thread(self._database.prepare)
        await self._fleets.start()
        if self._emf:
            await self._emf.start()
        if self._tracer:
            await self._tracer.exporter.start()
        await self._mcp_servers.start()

    async def close(self) -> None:
        if self._emf:
            await self._emf.close()
        if self._sync is not None:
            await self._sync.close()
        await self._fleets.close()
        await self._mcp_servers.close()
        await self._keys.close()
        await self._toolbox.aclose()
        await self._archive.close()
        await self._weather.aclose()
        if self._tracer:
            await self._tracer.exporter.close()

    def _use_mcp(self, settings: Settings) -> None:
        budget, telemetry = self._budget, self.telemetry
        seconds = settings.tool_timeout_seconds
        # A result of a tool may reach any of them.
        takes_images = all(one.sees_images for one in settings.entries if one.kind in CHAT_KINDS)
        self._mcp_servers = McpServers(
            settings.mcp_servers,
            seconds=seconds,
            takes_images=takes_images,
            budget=budget,
            telemetry=telemetry,
            on_tools=self._toolbox.set_remote,
        )
        self._request_servers = RequestServers(
            settings.mcp_request_servers,
            seconds=seconds,
            takes_images=takes_images,
            budget=budget,
            telemetry=telemetry,
        )

    def _build_tracer(self, settings: Settings) -> Tracer | None:
        if settings.traces_url is None:
            return None
        from .traces.tracer import Tracer  # costs nothing while traces are off

        tracer = Tracer(settings, deployment=settings.deployment_name)
        self.telemetry.register(tracer)
        return tracer

    def _emf_writer(self, settings: Settings) -> Emf | None:
        if not settings.emf:
            return None
        return Emf(
            self.telemetry,
            self._fleets.loads,
            deployment=settings.deployment_name,
            model=settings.default_model,
        )

    def _build_sync(self, settings: Settings) -> Sync | None:
        if settings.limits_table is None:
            return None
        return Sync(
            self._accounts,
            self._usage,
            Table(settings.limits_table, secrets.token_hex(4)),
            flush_seconds=settings.usage_flush_seconds,
            on_tasks=self._fleets.share_engines,
        )

    def _build_router(self, settings: Settings) -> Router:
        endpoint = functools.partial(
            Endpoint,
            settings=settings,
            keys=self._keys,
            accounts=self._accounts,
            usage=self._usage,
            in_flight=self.in_flight,
            telemetry=self.telemetry,
            tracer=self._tracer,
        )
        handlers = self._mcp_handlers(settings) | self._handlers(settings)
        app = build_routes(
            fleets=self._fleets,
            toolbox=self._toolbox,
            telemetry=self.telemetry,
            mcp_servers=lambda: self._mcp_servers.states,
            usage=UsageReport(self._usage, self._sync.read if self._sync else None),
            needs_key=not self._keys.open,
            serves_mcp="/mcp" in handlers,
            pages=settings.pages,
        )
        preflight = endpoint(
            "preflight",
            Preflight(settings.cors_origins),
            methods=(b"OPTIONS",),
            needs_key=False,
            limited=False,
        )
        return Router(
            [
                *[
                    endpoint(route, handler, is_form=route in FORM_ROUTES, errors=_error_format(route))
                    for route, handler in handlers.items()
                ],
                endpoint(
                    "/v1/responses/{response_id}",
                    StoredResponses(self._archive),
                    methods=(b"GET", b"DELETE"),
                    limited=False,
                ),
                *asgi_endpoints(app, endpoint),
            ],
            unknown=endpoint("unknown", _no_route, methods=(), needs_key=False, limited=False),
            preflight=preflight if settings.cors_origins else None,
        )

    def _handlers(self, settings: Settings) -> dict[str, Handler]:
        """Returns the handlers of the routes that a model answers."""
        fleets, attached = self._fleets, _attached(settings, self._toolbox)
        of_models = {fleet: self._handlers_of(fleet, settings, attached) for fleet in fleets}
        if not fleets.named:
            return of_models[fleets.first]
        bulkheads = {fleet: Bulkhead(fleet.entry, self.in_flight) for fleet in fleets}
        return {
            route: ByModel(
                route, fleets, {fleet: of_models[fleet][route] for fleet in serving(route, fleets)}, bulkheads
            )
            for route in ROUTES
        }

    def _handlers_of(self, fleet: Fleet, settings: Settings, attached: Sequence[str]) -> dict[str, Handler]:
        engines, model = fleet.engines, fleet.settings
        loop = ChatLoop(
            engines,
            self._toolbox,
            self.telemetry,
            max_rounds=settings.max_tool_rounds,
            rescue=rescue_for(model.tool_call_parser, model.rescue),
            control_tokens=fleet.control_tokens,
        )
        relay = Relay(engines, usage_on_request=True)
        plain_relay = Relay(engines, usage_on_request=False)
        handlers: dict[str, Handler] = {
            "/v1/chat/completions": Chat(loop, relay, self._toolbox, attached=attached),
            "/v1/completions": relay,
            "/v1/embeddings": plain_relay,
            "/v1/responses": Responses(
                loop, plain_relay, self._toolbox, self._request_servers, self._archive, attached=attached
            ),
            "/v1/messages": Messages(loop, plain_relay, self._toolbox),
            "/v1/messages/count_tokens": CountTokens(plain_relay, self._toolbox),
        }
        if fleet.entry:
            others = ROUTES.keys() - handlers
            handlers |= {
                route: Relay(engines, usage_on_request=False, path=ENGINE_PATHS.get(route))
                for route in others
            }
        return handlers

    def _mcp_handlers(self, settings: Settings) -> dict[str, Handler]:
        if settings.mcp_serve == "none":
            return {}
        route = McpRoute(
            self._toolbox,
            self.telemetry,
            all_tools=settings.mcp_serve == "all",
            origins=settings.cors_origins,
        )
        return {"/mcp": route}

    def _build_toolbox(self, settings: Settings) -> Toolbox:
        try:
            return Toolbox(
                [
                    self._weather.get_current_weather,
                    calculate_math,
                    self._database.query_database,
                    *load_tools(settings.tool_modules),
                ],
                timeout=settings.tool_timeout_seconds,
                result_limit=settings.tool_result_bytes,
                max_threads=settings.tool_threads,
            )
        except ValueError as error:
            raise SettingsError("TOOL_MODULES", ",".join(settings.tool_modules), str(error)) from None


def _accounts(settings: Settings) -> Accounts:
    return Accounts(
        Limits(settings.key_requests_per_minute, settings.key_tokens_per_day, settings.key_max_in_flight),
        shared=settings.limits_table is not None,
        fail_open=settings.limits_fail_open,
    )


async def _no_route(request: Request, _: Reply) -> None:
    raise not_found(request.head)


def _error_format(route: str) -> ErrorFormat:
    if route == "/mcp":
        return MCP_ERRORS
    return ANTHROPIC_ERRORS if route.startswith("/v1/messages") else OPENAI_ERRORS


def _attached(settings: Settings, toolbox: Toolbox) -> tuple[str, ...]:
    if settings.attach_tools == ("all",):
        return settings.attach_tools
    prefixes = tuple(f"{server.name}__" for server in settings.mcp_servers)
    for name in settings.attach_tools:
        if name not in toolbox.names and not name.startswith(prefixes):
            import difflib  # saves memory until a name is wrong

            known = ", ".join(sorted(toolbox.names))
            near = difflib.get_close_matches(name, toolbox.names, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError("ATTACH_TOOLS", name, f"must be `all` or a list of these: {known}{meant}")
    return settings.attach_tools
