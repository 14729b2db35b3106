"""The settings of the service; the only reader of the environment.

Every field is read from the environment variable of its name in capitals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from .errors import SettingsError

KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def _split(value: Any) -> Any:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a base URL such as http://vllm:8000")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password; the engine's key goes in VLLM_API_KEY")
    _ = parts.port
    if parts.path.rstrip("/") not in ("", "/v1"):
        raise ValueError("must have no path (a final /v1 is dropped)")
    return f"{parts.scheme}://{parts.netloc}"


def _engine_urls(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must name at least one base URL such as http://vllm:8000")
    return tuple(dict.fromkeys(_base_url(url) for url in value))


def _key_hashes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    hashes: dict[str, str] = {}
    for pair in _split(value):
        name, _, digest = pair.partition(":")
        if not KEY_NAME.fullmatch(name) or not SHA256_HEX.fullmatch(digest):
            raise ValueError(
                "must be name:hash pairs separated by commas; a name is letters, digits, '.', '_', '-', "
                "a hash is 64 hexadecimal digits as `printf %s KEY | sha256sum` prints them"
            )
        if name in hashes:
            raise ValueError(f"names {name!r} twice")
        hashes[name] = digest
    return hashes


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseModel):
    """Everything that can be set, with its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    vllm_url: Annotated[Names, AfterValidator(_engine_urls)] = Field(
        ("http://127.0.0.1:8000",),
        description="Base URL of the engine; several by commas, or one name with several addresses.",
    )
    vllm_api_key: SecretStr | None = Field(None, description="The engine's own key, sent with each request.")
    default_model: str = Field(
        "Qwen/Qwen2.5-7B-Instruct",
        min_length=1,
        description="The model that `/v1/models` names while no engine answers.",
    )
    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 (a container's port)
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on.")

    api_keys: Annotated[dict[str, str], BeforeValidator(_key_hashes)] = Field(
        {}, description="Named SHA-256 hashes of API keys: `name:hash,name:hash`."
    )
    api_keys_file: str | None = Field(
        None, description="JSON file of named hashes, `{name: hash}`; read again when it changes."
    )
    api_keys_secret_arn: str | None = Field(
        None, description="Secrets Manager secret of named hashes, `{name: hash}`; polled."
    )
    bootstrap_api_key: SecretStr | None = Field(
        None, min_length=16, description="One plaintext key, hashed at start and named `bootstrap`."
    )
    keys_refresh_seconds: Seconds = Field(30, description="How often the secret of keys is polled.")

    max_body_bytes: int = Field(8_388_608, ge=1024, description="Largest request body; more is a 413.")
    head_timeout_seconds: Seconds = Field(
        30, description="Time a client has to connect and send the head of a request."
    )
    body_timeout_seconds: Seconds = Field(30, description="Time a client has to send its body.")
    max_in_flight: int = Field(2048, ge=1, description="Requests under way at once; more are a 429.")
    request_timeout_seconds: Seconds = Field(300, description="Deadline of a whole request.")
    unread_timeout_seconds: Seconds = Field(
        60, description="Time in which a client must read something of an answer that waits for it."
    )
    heartbeat_seconds: Seconds = Field(
        10, description="Silence after which a stream gets its headers or a `: keep-alive` line."
    )
    keep_alive_seconds: Seconds = Field(
        930, description="Idle time of a client's connection; must exceed the load balancer's idle timeout."
    )
    drain_seconds: float = Field(
        10, ge=0, le=600, description="After SIGTERM: time in which new requests are still accepted."
    )
    stop_seconds: Seconds = Field(
        110, description="After SIGTERM: time after which what remains ends with an error."
    )

    engine_wait_seconds: float = Field(
        30, ge=0, le=3600, description="How long a request waits for an engine that starts."
    )
    engine_connect_seconds: Seconds = Field(2, description="Time to connect to an engine.")
    engine_refresh_seconds: Seconds = Field(
        5, description="How often engine names are resolved, engines probed and the list of models renewed."
    )

    tool_call_parser: str | None = Field(
        None,
        pattern=r"^[a-z0-9_]{1,64}$",
        description="vLLM's tool-call parser for the model, or `none`: the form of calls in text.",
    )
    rescue: Literal["never", "end_of_turn"] | None = Field(
        None,
        description="Whether a call that the engine left in the text is run where it ends a turn; `never` by "
        "default for parsers that are known to work.",
    )
    max_tool_rounds: int = Field(8, ge=1, le=100, description="Rounds of tool calls in one request.")
    tool_timeout_seconds: Seconds = Field(10, description="Time a tool has for one call.")
    tool_result_bytes: int = Field(16_384, ge=256, description="Longest tool result; the rest is cut.")
    tool_threads: int = Field(32, ge=1, le=1024, description="Threads for tools that are not async.")
    tool_modules: Names = Field((), description="Python modules whose public functions are tools too.")
    attach_tools: Names = Field(
        (), description="Server tools added to requests that bring none; `all` adds every one."
    )
    weather_source: Literal["open-meteo", "sample"] = Field(
        "open-meteo", description="Where weather comes from; `sample` is a table of climate averages."
    )
    weather_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "https://api.open-meteo.com", description="Base URL of the forecast service."
    )
    geocoding_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "https://geocoding-api.open-meteo.com", description="Base URL of the place-name service."
    )
    database_url: SecretStr | None = Field(
        None, description="`postgresql://` URL for query_database; without it, a SQLite sample."
    )
    database_tables: Names = Field(
        (), description="Tables that query_database may read; required with DATABASE_URL."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_content: bool = Field(False, description="Log messages and tool results too (for debugging only).")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads `environment`; an empty value counts as not set.

        Raises:
            SettingsError: names the variable, its value (unless secret) and what is allowed.
        """
        given = {
            name: environment[name.upper()] for name in cls.model_fields if environment.get(name.upper())
        }
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = str(problem["loc"][0])
            value = "<hidden>" if name in _SECRET else given[name]
            raise SettingsError(name.upper(), value, _allowed(problem["msg"])) from None
        if settings.database_url and not settings.database_tables:
            raise SettingsError(
                "DATABASE_TABLES", "", "with DATABASE_URL it must name the tables that may be read, by commas"
            )
        if settings.stop_seconds < settings.drain_seconds:
            raise SettingsError(
                "STOP_SECONDS",
                str(settings.stop_seconds),
                f"must be at least DRAIN_SECONDS ({settings.drain_seconds})",
            )
        return settings


_SECRET = {"vllm_api_key", "api_keys", "bootstrap_api_key", "database_url"}


def _allowed(message: str) -> str:
    for prefix in ("Value error, ", "Input "):
        message = message.removeprefix(prefix)
    return message
