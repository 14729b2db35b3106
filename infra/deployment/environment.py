"""The environment of the orchestrator's container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .plan import Plan
from .settings import Jwt
from .tool_settings import SecretHeader, Tools
from .trace_settings import Traces

ENGINE_PORT = 8000
ORCHESTRATOR_PORT = 8001
STATUS_PORT = 8002
"""On which an engine reports the steps of its start."""

_KEEP_ALIVE_MARGIN_SECONDS = 30
_STOP_MARGIN_SECONDS = 10
_DRAIN_SECONDS = 10

OWNED = {
    "VLLM_URL": "",
    "MODELS": "models",
    "VLLM_API_KEY": "",
    "DEFAULT_MODEL": "model.served_name",
    "TOOL_CALL_PARSER": "model.tool_call_parser",
    "RESCUE": "tools.rescue",
    "HOST": "",
    "PORT": "",
    "API_KEYS": "",
    "API_KEYS_FILE": "",
    "API_KEYS_SECRET_ARN": "",
    "LIMITS_TABLE": "",
    "LIMITS_FAIL_OPEN": "limits.fail_open",
    "KEY_REQUESTS_PER_MINUTE": "limits.requests_per_minute",
    "KEY_TOKENS_PER_DAY": "limits.tokens_per_day",
    "KEY_MAX_IN_FLIGHT": "limits.max_in_flight",
    "CORS_ORIGINS": "ingress.cors_origins",
    "PAGES": "ingress.page",
    "BOOTSTRAP_API_KEY": "",
    "REQUEST_TIMEOUT_SECONDS": "orchestrator.request_timeout_seconds",
    "ENGINE_STARTUP_SECONDS": "gpu.startup_seconds",
    "JWT_ISSUER": "ingress.jwt",
    "JWT_AUDIENCE": "ingress.jwt",
    "JWT_CLAIM": "ingress.jwt",
    "ENGINE_STATUS_PORT": "",
    "KEEP_ALIVE_SECONDS": "ingress.idle_timeout_seconds",
    "DRAIN_SECONDS": "",
    "STOP_SECONDS": "orchestrator.stop_timeout_seconds",
    "MAX_TOOL_ROUNDS": "tools.max_rounds",
    "TOOL_TIMEOUT_SECONDS": "tools.timeout_seconds",
    "TOOL_MODULES": "tools.modules",
    "MCP_SERVERS": "tools.mcp",
    "ATTACH_TOOLS": "tools.attach",
    "WEATHER_SOURCE": "tools.weather_source",
    "DATABASE_URL": "tools.database_url_secret_arn",
    "DATABASE_TABLES": "tools.database_tables",
    "LOG_LEVEL": "orchestrator.log_level",
    "EMF": "",
    "DEPLOYMENT_NAME": "name",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "orchestrator.traces",
    "OTEL_EXPORTER_OTLP_HEADERS": "orchestrator.traces",
    "OTEL_TRACES_SAMPLER_ARG": "orchestrator.traces",
}
"""Variables of the orchestrator that the deployment sets, and the setting for each; "" if there is none."""

OTHERS = ("PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "AWS_REGION")
"""Variables of the image and of ECS."""


def secret_variables(plan: Plan) -> tuple[str, ...]:
    """Returns the variables whose values ECS reads from secrets."""
    database = ("DATABASE_URL",) if plan.deployment.tools.database_url_secret_arn else ()
    traces = plan.deployment.orchestrator.traces
    headers = ("OTEL_EXPORTER_OTLP_HEADERS",) if traces and traces.headers_secret_arn else ()
    return ("BOOTSTRAP_API_KEY", "VLLM_API_KEY", *database, *headers, *plan.deployment.tools.all_secrets)


def engine_name(plan: Plan) -> str:
    """The name under which a model's engines are found."""
    return "vllm" if plan.deployment.is_main else f"vllm-{plan.deployment.entry}"


def engine_url(plan: Plan) -> str:
    """The URL of a model's engines."""
    return f"http://{engine_name(plan)}.{plan.deployment.name}.internal:{ENGINE_PORT}"


def lists_models(plan: Plan) -> bool:
    """Whether the orchestrator gets a list of models; the other variables describe one that only chats."""
    model = plan.deployment.model
    return len(plan.entries) > 1 or bool(model.aliases or model.has_adapters) or model.kind != "chat"


def engine_models(plan: Plan) -> str:
    """Returns the models behind the orchestrator as JSON; "" if the other variables say it all."""
    if not lists_models(plan):
        return ""
    entries = plan.entries
    served = {one.deployment.entry: one.deployment.served_model for one in entries}
    models = [_engine_model(one, served) for one in entries]
    return json.dumps(models)


def _engine_model(plan: Plan, served: Mapping[str, str]) -> dict[str, Any]:
    deployment = plan.deployment
    model, entry = deployment.model, deployment.models.get(deployment.entry)
    fields = {
        "model": deployment.served_model,
        "url": engine_url(plan),
        "kind": model.kind if model.kind != "chat" else None,
        "aliases": list(model.aliases),
        "adapters": list(model.adapters),
        "loads_adapters": model.adapters_from is not None,
        "fallback": served[entry.fallback] if entry and entry.fallback else None,
        "startup_seconds": deployment.gpu.startup_seconds if plan.sleeps else None,
        "status_port": STATUS_PORT,
        "takes_images": plan.takes_images,
        "rescue": deployment.tools.rescue,
        "tool_call_parser": plan.tool_call_parser,
    }
    return {name: value for name, value in fields.items() if value}


def orchestrator_environment(
    plan: Plan, *, api_keys_secret_arn: str, limits_table: str = ""
) -> dict[str, str]:
    """Returns the orchestrator's environment without secrets. Unset variables have their defaults.

    The load balancer closes idle connections first (KEEP_ALIVE_SECONDS), and requests end with an error
    before ECS kills the task (STOP_SECONDS).
    """
    deployment = plan.deployment
    settings, tools = deployment.orchestrator, deployment.tools
    stop_seconds = settings.stop_timeout_seconds - _STOP_MARGIN_SECONDS
    environment = {
        "VLLM_URL": engine_url(plan),
        "MODELS": engine_models(plan),
        "DEFAULT_MODEL": deployment.served_model,
        "TOOL_CALL_PARSER": plan.tool_call_parser,
        "RESCUE": tools.rescue,
        "PORT": str(ORCHESTRATOR_PORT),
        "API_KEYS_SECRET_ARN": api_keys_secret_arn,
        "LIMITS_TABLE": limits_table,
        "LIMITS_FAIL_OPEN": str(deployment.limits.fail_open).lower(),
        "KEY_REQUESTS_PER_MINUTE": str(deployment.limits.requests_per_minute or ""),
        "KEY_TOKENS_PER_DAY": str(deployment.limits.tokens_per_day or ""),
        "KEY_MAX_IN_FLIGHT": str(deployment.limits.max_in_flight or ""),
        "CORS_ORIGINS": ",".join(deployment.ingress.cors_origins),
        **_tokens(deployment.ingress.jwt),
        "PAGES": "" if deployment.ingress.page else "false",
        "REQUEST_TIMEOUT_SECONDS": str(settings.request_timeout_seconds),
        "ENGINE_STARTUP_SECONDS": str(deployment.gpu.startup_seconds) if plan.sleeps else None,
        "ENGINE_STATUS_PORT": str(STATUS_PORT),
        "KEEP_ALIVE_SECONDS": str(deployment.ingress.idle_timeout_seconds + _KEEP_ALIVE_MARGIN_SECONDS),
        "DRAIN_SECONDS": str(_DRAIN_SECONDS),
        "STOP_SECONDS": str(stop_seconds),
        "MAX_TOOL_ROUNDS": str(tools.max_rounds),
        "TOOL_TIMEOUT_SECONDS": str(tools.timeout_seconds),
        "TOOL_MODULES": ",".join(tools.modules),
        "MCP_SERVERS": mcp_servers(tools),
        "ATTACH_TOOLS": ",".join(tools.attach),
        "WEATHER_SOURCE": tools.weather_source,
        "DATABASE_TABLES": ",".join(tools.database_tables),
        "LOG_LEVEL": settings.log_level,
        "EMF": "true",
        "DEPLOYMENT_NAME": deployment.name,
        **_traces(settings.traces),
    }
    set_here = {name: value for name, value in environment.items() if value}
    # A deployment may know its model better. Of several, MODELS says it of each.
    known = {"MODEL_TAKES_IMAGES": "true"} if plan.takes_images and not lists_models(plan) else {}
    return {**known, **tools.environment, **settings.environment, **set_here}


def mcp_servers(tools: Tools) -> str:
    """Returns the servers as JSON, in which `$(NAME)` stands for the secret in that variable."""
    servers: list[dict[str, Any]] = []
    for server in tools.mcp:
        headers = {
            header: f"{value.prefix}$({server.variable(header)})"
            if isinstance(value, SecretHeader)
            else value
            for header, value in server.headers.items()
        }
        fields = {
            "name": server.name,
            "url": server.url,
            "headers": headers,
            "tools": list(server.tools) if server.tools is not None else None,
            "timeout_seconds": server.timeout_seconds,
        }
        servers.append({name: value for name, value in fields.items() if value not in (None, {})})
    return json.dumps(servers) if servers else ""


def _traces(traces: Traces | None) -> dict[str, str]:
    if traces is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
        "OTEL_TRACES_SAMPLER_ARG": f"{traces.sample_ratio:g}",
    }


def _tokens(jwt: Jwt | None) -> dict[str, str]:
    if jwt is None:
        return {}
    return {"JWT_ISSUER": jwt.issuer, "JWT_AUDIENCE": jwt.audience, "JWT_CLAIM": jwt.claim}
