"""The section `tools` of the deployment file."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from .values import (
    Action,
    Ipv4Network,
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


class Tools(Section):
    """The tools that the orchestrator runs for the model."""

    directory: str = Field(
        default=TOOLS_DIRECTORY,
        min_length=1,
        description="Directory with your own modules, which the image contains and imports from.",
    )
    modules: tuple[Word, ...] = yaml_list(
        (), "Python modules in `directory` whose public functions are also tools."
    )
    requirements: str | None = Field(
        default=None,
        min_length=1,
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
