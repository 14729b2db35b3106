"""A tool that another server runs, and what it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .context import ToolContext
from .nulls import strict_schema

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """What a remote tool returned.

    Attributes:
        value: the result: a text, or a JSON value.
        failed: whether the tool reports an error, which `value` describes.
        images: the images of the result as parts of a chat message, for a model that accepts images.
    """

    value: Any
    failed: bool = False
    images: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """One tool of an MCP server.

    Attributes:
        name: the name that models see, `SERVER__TOOL`.
        server: the name of the server.
        remote_name: the tool's name on its server.
        description, parameters: what the server says about the tool. They are shared and must not be changed.
        run: calls the tool. It may raise `ToolError` with a message for the model, and `CallTimeout`.
        annotations: the server's hints, such as `readOnlyHint`.
    """

    name: str
    server: str
    remote_name: str
    description: str
    parameters: JsonObject
    run: Callable[[JsonObject, ToolContext], Awaitable[RemoteResult]]
    annotations: JsonObject = field(default_factory=dict)

    @property
    def is_quick(self) -> bool:
        return False

    @property
    def strict_parameters(self) -> JsonObject:
        """The parameters for clients that request OpenAI's strict mode, unchanged if they cannot be."""
        try:
            return strict_schema(self.parameters)
        except (
            AttributeError,
            TypeError,
        ):  # valid in JSON Schema, but not of the form that strict mode needs
            return self.parameters

    def spec(self) -> JsonObject:
        """Returns the tool in the format of a request's `tools`."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def given(self, arguments: JsonObject) -> JsonObject:
        """Returns the arguments without nulls that mean a default. The server validates the rest."""
        if not any(value is None for value in arguments.values()):
            return arguments
        properties, required = self.parameters.get("properties"), self.parameters.get("required")
        if not isinstance(properties, dict) or not isinstance(required, list | None):
            return arguments
        return {
            name: value
            for name, value in arguments.items()
            if value is not None or name in (required or ()) or _allows_null(properties.get(name))
        }


def _allows_null(schema: Any) -> bool:
    """Returns whether a property may be null. Only one level counts: a schema may have any form."""
    if not isinstance(schema, dict):
        return True
    options = schema.get("anyOf") or schema.get("oneOf") or ()
    kinds = [schema.get("type"), *(one.get("type") for one in options if isinstance(one, dict))]
    return any(kind == "null" or (isinstance(kind, list) and "null" in kind) for kind in kinds)
