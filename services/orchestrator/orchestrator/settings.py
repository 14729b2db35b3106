"""The settings of the service. No other module reads the environment.

Each field is read from the environment variable with the same name in upper case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from .errors import SettingsError
from .mcp_settings import McpServerSettings, allowed_url, read_servers
from .model_settings import PARSER, EngineUrls, ModelSettings, Rescue, base_url, read_models, split
from .trace_settings import TraceSettings

KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
RESPONSES_IN_MEMORY = "sqlite::memory:"


def _responses_store(value: str) -> str:
    if value in ("none", RESPONSES_IN_MEMORY) or re.fullmatch(
        r"sqlite:///.+|dynamodb://[\w.-]{3,255}", value
    ):
        return value
    raise ValueError(f"must be {RESPONSES_IN_MEMORY}, sqlite:///FILE, dynamodb://TABLE or none")


def _allowed_urls(value: tuple[str, ...]) -> tuple[str, ...]:
    for url in value:
        allowed_url(url)
    return value


def _key_hashes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    hashes: dict[str, str] = {}
    for pair in split(value):
        name, _, digest = pair.partition(":")
        if not KEY_NAME.fullmatch(name) or not SHA256_HEX.fullmatch(digest):
            raise ValueError(
                "must be name:hash pairs separated by commas; a name has letters, digits, '.', '_' and '-', "
                "a hash has 64 hexadecimal digits, as printed by `printf %s KEY | sha256sum`"
            )
        if name in hashes:
            raise ValueError(f"contains the name {name!r} twice")
        hashes[name] = digest
    return hashes


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "must be `*` or origins such as https://app.example.com, separated by commas, without a path"
            )
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(split)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(TraceSettings):
    """All settings with their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    vllm_url: EngineUrls = Field(
        ("http://127.0.0.1:8000",),
        description="Base URL of the engine. For several engines, separate URLs with commas or use a name "
        "that resolves to several addresses.",
    )
    vllm_api_key: SecretStr | None = Field(
        None,
        description="API key of the engine, sent with every request to it. While it is rotated, two keys "
        "separated by a comma: an engine that rejects one gets the other.",
    )
    default_model: str = Field(
        "Qwen/Qwen2.5-7B-Instruct",
        min_length=1,
        description="Model that `/v1/models` lists until an engine has answered.",
    )
    models: Annotated[tuple[ModelSettings, ...], BeforeValidator(read_models)] = Field(
        (),
        description="Several models behind one address, as JSON (see [Several models](docs/models.md)): "
        '`[{"model": "Qwen/Qwen2.5-7B-Instruct", "url": "http://vllm:8000", "aliases": ["gpt-4o"]}, '
        '{"model": "BAAI/bge-m3", "url": "http://bge:8000", "kind": "embedding"}]`. VLLM_URL, DEFAULT_MODEL, '
        "ENGINE_STARTUP_SECONDS, ENGINE_STATUS_PORT, TOOL_CALL_PARSER, RESCUE and MODEL_TAKES_IMAGES then "
        "have no effect: each model has its own.",
    )
    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 (a container's port)
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on.")

    api_keys: Annotated[dict[str, str], BeforeValidator(_key_hashes)] = Field(
        {}, description="Named SHA-256 hashes of API keys: `name:hash,name:hash`."
    )
    api_keys_file: str | None = Field(
        None, description="JSON file of named hashes, `{name: hash}`; reloaded when it changes."
    )
    api_keys_secret_arn: str | None = Field(
        None, description="ARN of a Secrets Manager secret with named hashes, `{name: hash}`; polled."
    )
    bootstrap_api_key: SecretStr | None = Field(
        None, min_length=16, description="One plaintext key, hashed at startup and named `bootstrap`."
    )
    jwt_issuer: str | None = Field(
        None,
        min_length=1,
        description="Issuer of JSON Web Tokens that identify people without a key. Only behind a load "
        "balancer that verifies the tokens' signatures: the orchestrator does not.",
    )
    jwt_audience: str | None = Field(None, min_length=1, description="Audience (`aud`) of these tokens.")
    jwt_claim: str = Field(
        "sub", min_length=1, description="Claim that says who somebody is, in limits, usage and logs."
    )
    keys_refresh_seconds: Seconds = Field(30, description="Interval at which the secret is polled.")
    key_requests_per_minute: int | None = Field(
        None, ge=1, description="Requests per minute of each key that has no such limit of its own."
    )
    key_tokens_per_day: int | None = Field(
        None, ge=1, description="Tokens per day of each key that has no such limit of its own."
    )
    key_max_in_flight: int | None = Field(
        None, ge=1, description="Concurrent requests of each key that has no such limit of its own."
    )
    limits_table: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.:/-]{3,1024}$",
        description="DynamoDB table, by name or ARN, with which several orchestrators share limits and "
        "usage. Without one, each counts for itself, in memory.",
    )
    limits_fail_open: bool = Field(
        True,
        description="Whether each orchestrator grants the whole limits while the table does not answer. If "
        "not, keys with limits get a 503 once they have used what was leased.",
    )
    usage_flush_seconds: float = Field(
        5, ge=1, le=60, description="Interval at which usage is stored in LIMITS_TABLE."
    )
    cors_origins: Annotated[Names, AfterValidator(_origins)] = Field(
        (),
        description="Origins of web pages that may use the API from a browser, such as "
        "`https://app.example.com`, separated by commas, or `*`.",
    )

    pages: bool = Field(
        True, description="Whether to serve the chat page at `/` and the description of the API at `/docs`."
    )

    max_body_bytes: int = Field(
        8_388_608, ge=1024, description="Maximum size of a request body; a larger one gets a 413."
    )
    max_json_values: int = Field(
        500_000,
        ge=1000,
        description="Maximum number of values in a request body, counted by its commas and opening brackets.",
    )
    memory_budget_bytes: int | None = Field(
        None,
        ge=16_777_216,
        description="Memory that all requests and answers may use together; a request beyond it gets a 429. "
        "Default: a quarter of the container's limit.",
    )
    max_answer_bytes: int = Field(
        67_108_864,
        ge=65_536,
        description="Maximum size of an engine's whole answer; a larger one gets a 502.",
    )
    head_timeout_seconds: Seconds = Field(
        30, description="Time limit for a client to connect and send the head of a request."
    )
    body_timeout_seconds: Seconds = Field(30, description="Time limit for a client to send its request body.")
    max_in_flight: int = Field(
        2048, ge=1, description="Maximum number of concurrent requests; further ones get a 429."
    )
    request_timeout_seconds: Seconds = Field(300, description="Time limit for a whole request.")
    unread_timeout_seconds: Seconds = Field(
        60, description="Time limit for a client to read some of an answer that is waiting for it."
    )
    heartbeat_seconds: Seconds = Field(
        10, description="Idle time after which a stream sends its headers or a `: keep-alive` line."
    )
    keep_alive_seconds: Seconds = Field(
        930,
        description="Time after which an idle client connection is closed; must exceed the load balancer's "
        "idle timeout.",
    )
    drain_seconds: float = Field(
        10, ge=0, le=600, description="Time after SIGTERM during which new requests are still accepted."
    )
    stop_seconds: Seconds = Field(
        110, description="Time after SIGTERM at which the remaining requests end with an error."
    )

    engine_wait_seconds: float = Field(
        30, ge=0, le=3600, description="How long a request waits for an engine to start."
    )
    engine_startup_seconds: float = Field(
        0,
        ge=0,
        le=3600,
        description="How long an engine may take to start on demand; 0 if engines are always on. Without an "
        "engine, streams wait for this long instead of ENGINE_WAIT_SECONDS, and other requests get a 503.",
    )
    engine_status_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which a starting engine reports its steps; 0 if there is none.",
    )
    engine_affinity: bool = Field(
        True,
        description="Whether requests with the same beginning (model, tools, system prompt, first message of "
        "the user) go to the same engine, whose prefix cache has it, unless that has more than 1.25 times "
        "the mean of the requests in flight.",
    )
    engine_connect_seconds: Seconds = Field(2, description="Time limit for connecting to an engine.")
    engine_refresh_seconds: Seconds = Field(
        5,
        description="Interval for resolving engine names and refreshing the model list.",
    )
    engine_probe_seconds: Seconds = Field(
        1.5,
        description="Time limit for an engine to answer a health probe, which is sent every second. "
        "After two misses in a row it counts as down, unless its other answers go on.",
    )
    engine_silent_seconds: Seconds = Field(
        30,
        description="Time after which a stream ends with an error if its engine is down and silent.",
    )

    tool_call_parser: str | None = Field(
        None,
        pattern=PARSER,
        description="vLLM's tool-call parser for the model, or `none`; defines the format of calls in text.",
    )
    rescue: Rescue | None = Field(
        None,
        description="Whether to run a call that the engine left in the text at the end of a turn. Default: "
        "`end_of_turn` if TOOL_CALL_PARSER is unset or `none`, else `never`.",
    )
    max_tool_rounds: int = Field(8, ge=1, le=100, description="Maximum rounds of tool calls per request.")
    tool_timeout_seconds: Seconds = Field(10, description="Time limit for one tool call.")
    tool_result_bytes: int = Field(
        16_384, ge=256, description="Maximum size of a tool result; a longer one is truncated."
    )
    tool_threads: int = Field(
        32,
        ge=1,
        le=1024,
        description="Maximum number of threads for tools that are not async. "
        "One request uses at most a quarter of them; its further calls wait.",
    )
    tool_modules: Names = Field(
        (), description="Python modules whose public functions become tools, separated by commas."
    )
    mcp_servers: tuple[McpServerSettings, ...] = Field(
        (),
        description="MCP servers whose tools models may call, as JSON or as the path of a JSON file: "
        '`[{"name": "docs", "url": "https://mcp.example.com/mcp", "headers": {"Authorization": '
        '"Bearer ${DOCS_TOKEN}"}, "tools": ["search"], "timeout_seconds": 30}]`, or `command` and '
        "`environment` instead of `url` and `headers`.",
    )
    mcp_request_servers: Annotated[Names, AfterValidator(_allowed_urls)] = Field(
        (),
        description="MCP servers that requests may bring: URLs whose paths start like these, separated by "
        "commas; `https://*.example.com` stands for every subdomain. Default: none.",
    )
    mcp_serve: Literal["none", "own", "all"] = Field(
        "own",
        description="Tools that `POST /mcp` serves: `own` leaves out those of other MCP servers.",
    )
    model_takes_images: bool = Field(
        False,
        description="Whether the model accepts images: from tools, and on the page. `/v1/models` says so.",
    )
    attach_tools: Names = Field(
        (), description="Server tools added to requests that have no `tools`, separated by commas, or `all`."
    )
    weather_source: Literal["open-meteo", "sample"] = Field(
        "open-meteo", description="Source of weather data; `sample` is a table of climate averages."
    )
    weather_url: Annotated[str, AfterValidator(base_url)] = Field(
        "https://api.open-meteo.com", description="Base URL of the forecast service."
    )
    geocoding_url: Annotated[str, AfterValidator(base_url)] = Field(
        "https://geocoding-api.open-meteo.com", description="Base URL of the geocoding service."
    )
    responses_store: Annotated[str, AfterValidator(_responses_store)] | None = Field(
        None,
        description="Where responses with `store: true` are kept: `sqlite::memory:` (in this process, "
        "lost when it ends), `sqlite:///FILE`, `dynamodb://TABLE`, or `none`. Default: the table of "
        "LIMITS_TABLE if it is set, else `sqlite::memory:`.",
    )
    responses_seconds: int = Field(
        2_592_000, ge=60, le=31_536_000, description="How long a stored response is kept."
    )
    responses_bytes: int = Field(
        67_108_864,
        ge=1_048_576,
        description="Maximum size of all responses in SQLite, compressed; the oldest ones are deleted.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="`postgresql://` or `sqlite:///` URL for query_database. Default: a sample database.",
    )
    database_tables: Names = Field(
        (),
        description="Tables that query_database may read, separated by commas; required with DATABASE_URL.",
    )

    emf: bool = Field(False, description="Whether to write metrics for CloudWatch to standard output.")
    deployment_name: str = Field(
        "tandem", min_length=1, description="The dimension `Deployment` of the metrics for CloudWatch."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level that is logged."
    )
    log_content: bool = Field(
        False, description="Also log the arguments and results of tool calls (for debugging only)."
    )

    @property
    def store_of_responses(self) -> str:
        """RESPONSES_STORE, or its default."""
        shared = f"dynamodb://{self.limits_table}" if self.limits_table else RESPONSES_IN_MEMORY
        return self.responses_store or shared

    @property
    def entries(self) -> tuple[ModelSettings, ...]:
        """MODELS, or the single model of the other variables."""
        # Unchecked: a single model may have any name.
        return self.models or (
            ModelSettings.model_construct(
                model=self.default_model,
                url=self.vllm_url,
                startup_seconds=self.engine_startup_seconds,
                status_port=self.engine_status_port,
                takes_images=self.model_takes_images,
                rescue=self.rescue,
                tool_call_parser=self.tool_call_parser,
            ),
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads the settings from `environment`; an empty value counts as unset.

        Raises:
            SettingsError: a value is invalid; the message names the variable, its value (unless it is
                secret) and what is allowed.
        """
        given: dict[str, Any] = {
            name: environment[name.upper()] for name in cls.model_fields if environment.get(name.upper())
        }
        if "mcp_servers" in given:
            try:
                given["mcp_servers"] = read_servers(given["mcp_servers"], environment)
            except ValueError as error:
                raise SettingsError("MCP_SERVERS", "<hidden>", str(error)) from None
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = str(problem["loc"][0])
            value = "<hidden>" if name in _SECRET else given[name][:_SHOWN_CHARACTERS]
            raise SettingsError(name.upper(), value, _allowed(problem["msg"])) from None
        if settings.database_url and not settings.database_tables:
            raise SettingsError(
                "DATABASE_TABLES",
                "",
                "required with DATABASE_URL: list the tables that may be read, separated by commas",
            )
        if settings.stop_seconds < settings.drain_seconds:
            raise SettingsError(
                "STOP_SECONDS",
                str(settings.stop_seconds),
                f"must be at least DRAIN_SECONDS ({settings.drain_seconds})",
            )
        return settings


_SHOWN_CHARACTERS = 500
_SECRET = {
    "vllm_api_key", "api_keys", "bootstrap_api_key", "database_url", "mcp_servers",
    "otel_exporter_otlp_headers",
}  # fmt: skip


def _allowed(message: str) -> str:
    for prefix in ("Value error, ", "Input "):
        message = message.removeprefix(prefix)
    return message
