"""The settings of MCP servers: `MCP_SERVERS`, as JSON or as the path of a file with that JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

MAX_SERVERS = 64
_NAME = r"^[a-zA-Z0-9]+([_-][a-zA-Z0-9]+)*$"
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|\(([A-Za-z_][A-Za-z0-9_]*)\))")
"""`${NAME}`, or `$(NAME)` where the other form has a meaning of its own, as in CloudFormation."""

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
"""The variables that a program gets from this process, which has secrets in others."""

_OUR_HEADERS = frozenset(
    {
        "host", "content-length", "content-type", "transfer-encoding", "connection", "accept",
        "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name",
    }
)  # fmt: skip


def endpoint(value: str) -> str:
    """Returns the URL of an MCP server if it can be used.

    Raises:
        ValueError: it cannot.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("must be a URL such as https://mcp.example.com/mcp")
    if parts.username or parts.password:
        raise ValueError("must not contain a user or password; use headers")
    _ = parts.port
    if not value.isascii() or any(character <= " " for character in value):
        raise ValueError("must contain only ASCII characters and no spaces")
    return value


def check_headers(headers: Mapping[str, str]) -> None:
    """Checks header lines for an MCP server.

    Raises:
        ValueError: a name or value cannot be sent. The message does not show values.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is not the name of a header")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"the header {name} is set by the client and cannot be changed")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name} must be printable ASCII and not empty")


def allowed_url(value: str) -> tuple[str, str, int, str]:
    """Returns scheme, host, port and start of the path of an entry of the list of servers that are allowed.

    Raises:
        ValueError: the entry is not valid.
    """
    endpoint(value.replace("://*.", "://any.", 1))
    parts = urlsplit(value)
    host = parts.hostname or ""
    if "*" in host.removeprefix("*."):
        raise ValueError("may have `*.` only at the start of the host")
    if parts.query:
        raise ValueError("must not have a query")
    return parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80), parts.path or "/"


class McpServerSettings(BaseModel):
    """One MCP server."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=_NAME, max_length=32)
    url: Annotated[str, AfterValidator(endpoint)] | None = None
    headers: dict[str, SecretStr] = {}
    command: tuple[str, ...] | None = Field(None, min_length=1)
    environment: dict[str, SecretStr] = {}
    tools: tuple[str, ...] | None = None
    timeout_seconds: float | None = Field(None, gt=0, le=3600)

    @model_validator(mode="after")
    def _one_transport(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("needs either url or command")
        if "__" in self.name:
            raise ValueError("name must not contain two underscores in a row")
        if self.headers and self.url is None:
            raise ValueError("headers go with url, environment with command")
        if self.environment and self.command is None:
            raise ValueError("environment goes with command, headers with url")
        check_headers(self.plain_headers)
        return self

    @property
    def plain_headers(self) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in self.headers.items()}

    @property
    def plain_environment(self) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in self.environment.items()}


def read_servers(value: str, environment: Mapping[str, str]) -> tuple[McpServerSettings, ...]:
    """Reads the servers. `${NAME}` or `$(NAME)` in headers and environments is a variable of this process.

    Raises:
        ValueError: a server cannot be used. The message names it and the field, and shows no value.
    """
    text = value if value.lstrip().startswith(("[", "{")) else _file(value)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"must be JSON, or the path of a file with JSON: {error}") from None
    if not isinstance(found, list) or len(found) > MAX_SERVERS:
        raise ValueError(f"must be a list of at most {MAX_SERVERS} servers such as {_EXAMPLE}")
    servers: dict[str, McpServerSettings] = {}
    for number, one in enumerate(found):
        where = f"server {number}"
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            where = f"server {one['name'][:40]!r}"
        try:
            server = McpServerSettings.model_validate(_resolved(one, environment))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = ".".join(map(str, problem["loc"]))
            message = problem["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where}: {field + ': ' if field else ''}{message}") from None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if server.name in servers:
            raise ValueError(f"{where}: the name is used twice")
        servers[server.name] = server
    return tuple(servers.values())


_EXAMPLE = '[{"name": "docs", "url": "https://mcp.example.com/mcp"}]'


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"must be a list such as {_EXAMPLE}, or the path of a file with one: {error}"
        ) from None


def _resolved(server: Any, environment: Mapping[str, str]) -> Any:
    """Replaces references to variables, and gives programs the variables that they need to start."""
    if not isinstance(server, dict):
        return server
    resolved = dict(server)
    for field in ("headers", "environment"):
        values = server.get(field)
        if isinstance(values, dict):
            resolved[field] = {name: _replaced(value, environment) for name, value in values.items()}
    if isinstance(server.get("command"), list):
        inherited = {name: environment[name] for name in _INHERITED if name in environment}
        own = resolved.get("environment", {})
        resolved["environment"] = inherited | own if isinstance(own, dict) else own
    return resolved


def _replaced(value: Any, environment: Mapping[str, str]) -> Any:
    if not isinstance(value, str):
        return value

    def read(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if not environment.get(name):
            raise ValueError(f"refers to the variable {name}, which is not set")
        return environment[name]

    return _REFERENCE.sub(read, value)
