"""The section `tools` of the deployment file."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from .values import (
    Action,
    FilePath,
    HeaderName,
    Ipv4Network,
    McpName,
    McpUrl,
    PolicyArn,
    ResourceArn,
    SecretArn,
    Section,
    SecurityGroupId,
    Variable,
    Word,
    yaml_list,
)

TOOLS_DIRECTORY = "services/orchestrator/tools"


class ToolSecret(Section):
    """A secret that becomes a variable of the tools. The secret's ARN alone stands for its whole value."""

    arn: SecretArn = Field(description="ARN of the secret in Secrets Manager.")
    json_key: Word | None = Field(
        default=None, description="Key of a JSON secret whose value is taken. Default: the whole secret."
    )

    @model_validator(mode="before")
    @classmethod
    def _arn_alone(cls, data: Any) -> Any:
        return {"arn": data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class ToolStatement(Section):
    """What the tools may do in the account: an IAM statement that allows actions on resources."""

    actions: tuple[Action, ...] = Field(
        strict=False, min_length=1, description="Actions by name, without wildcards, such as `s3:GetObject`."
    )
    resources: tuple[ResourceArn, ...] = Field(
        strict=False, min_length=1, description="ARNs of the resources; `*` in an ARN stands for any text."
    )


class ToolEgress(Section):
    """A connection that the tools open, besides HTTPS: a TCP port and its other end."""

    port: int = Field(ge=1, le=65535, description="TCP port.")
    cidr: Ipv4Network | None = Field(default=None, description="IPv4 network of the other end.")
    security_group: SecurityGroupId | None = Field(
        default=None, description="Security group of the other end, which must let the orchestrator in."
    )

    @model_validator(mode="after")
    def _one_peer(self) -> Self:
        if (self.cidr is None) == (self.security_group is None):
            raise ValueError("needs either cidr or security_group, such as {port: 6379, cidr: 10.0.0.0/16}")
        return self


class SecretHeader(Section):
    """A header whose value is a secret."""

    arn: SecretArn = Field(description="ARN of the secret in Secrets Manager.")
    json_key: Word | None = Field(
        default=None, description="Key of a JSON secret whose value is taken. Default: the whole secret."
    )
    prefix: str = Field(default="", description="Text before the secret, such as `Bearer` and a space.")


class McpServer(Section):
    """A server of the Model Context Protocol, whose tools models may call as `NAME__TOOL`."""

    name: McpName = Field(
        max_length=32, description="Name of the server, the first part of its tools' names."
    )
    url: McpUrl = Field(description="URL of the server's endpoint.")
    headers: dict[HeaderName, str | SecretHeader] = Field(
        default={},
        description="Header lines of every request: name to value, or to `{arn: ARN, json_key: KEY, "
        "prefix: TEXT}` for a secret.",
    )
    tools: tuple[Word, ...] | None = Field(
        default=None, strict=False, description="Names of the tools to offer. Default: all."
    )
    timeout_seconds: int | None = Field(
        default=None, ge=1, le=3600, description="Time limit of a call. Default: `tools.timeout_seconds`."
    )

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def variable(self, header: str) -> str:
        """Returns the variable of the orchestrator that has a secret header's value."""
        return re.sub(r"[^A-Z0-9]", "_", f"MCP_{self.name}_{header}".upper())

    @property
    def secrets(self) -> dict[str, SecretHeader]:
        return {header: value for header, value in self.headers.items() if isinstance(value, SecretHeader)}


class Tools(Section):
    """The tools that the orchestrator runs for the model."""

    directory: FilePath = Field(
        default=TOOLS_DIRECTORY,
        description="Directory with your own modules, which the image contains and imports from.",
    )
    modules: tuple[Word, ...] = yaml_list(
        (), "Python modules in `directory` whose public functions are also tools."
    )
    requirements: FilePath | None = Field(
        default=None,
        description="Requirements file with hashes of the packages that your tools need (`make lock-tools`).",
    )
    environment: dict[Variable, str] = Field(
        default={}, description="Environment variables for your tools. Use `secrets` for secret values."
    )
    secrets: dict[Variable, ToolSecret] = Field(
        default={},
        description="Variables whose values are secrets: name to ARN, or to `{arn: ARN, json_key: KEY}`.",
    )
    policy_arns: tuple[PolicyArn, ...] = yaml_list(
        (), "Managed policies for the orchestrator's task role, which your tools act with.", max_length=10
    )
    statements: tuple[ToolStatement, ...] = yaml_list(
        (), "What your tools may do in the account: a list of `{actions: [], resources: []}`."
    )
    egress: tuple[ToolEgress, ...] = yaml_list(
        (),
        "Connections besides HTTPS: a list of `{port: PORT, cidr: NETWORK}` or "
        "`{port: PORT, security_group: GROUP}`.",
    )
    mcp: tuple[McpServer, ...] = yaml_list(
        (), "MCP servers whose tools models may call: a list of `{name: NAME, url: URL}`, see `tools.mcp[]`."
    )
    attach: tuple[Word, ...] = yaml_list(
        (), "Tools to add to requests that bring none; `all` adds every tool."
    )
    max_rounds: int = Field(
        default=8, ge=1, le=100, description="Maximum number of rounds of tool calls per request."
    )
    timeout_seconds: int = Field(default=10, ge=1, le=3600, description="Time limit of one tool call.")
    rescue: Literal["never", "end_of_turn"] | None = Field(
        default=None,
        description="Whether to run a call that the engine left in the text at the end of a turn. Default: "
        "never for parsers that are known to work.",
    )
    weather_source: Literal["open-meteo", "sample"] = Field(
        default="open-meteo", description="Source of weather data; `sample` is a table of climate averages."
    )
    database_url_secret_arn: SecretArn | None = Field(
        default=None, description="Secret with the `postgresql://` URL. Default: a SQLite sample database."
    )
    database_tables: tuple[Word, ...] = yaml_list((), "Tables that query_database may read.")

    @property
    def all_secrets(self) -> dict[str, ToolSecret]:
        """The secrets of the tools and of the MCP servers' headers, by variable."""
        headers = {
            server.variable(header): ToolSecret(arn=value.arn, json_key=value.json_key)
            for server in self.mcp
            for header, value in server.secrets.items()
        }
        return {**headers, **self.secrets}

    @property
    def secret_arns(self) -> dict[str, str]:
        """The ARNs of these secrets by their place in the file."""
        headers = {
            f"tools.mcp.{number}.headers.{header}": value.arn
            for number, server in enumerate(self.mcp)
            for header, value in server.secrets.items()
        }
        return {f"tools.secrets.{name}": secret.arn for name, secret in self.secrets.items()} | headers
