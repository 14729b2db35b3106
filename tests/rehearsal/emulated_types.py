"""Resource types that are added to the emulator, and the check of their properties."""

from __future__ import annotations

from typing import Any

import botocore.session
import ministack.services.cloudformation.provisioners as provisioners

Properties = dict[str, Any]
HANDLERS: dict[str, dict[str, Any]] = provisioners._RESOURCE_HANDLERS
_SESSION = botocore.session.get_session()


def checked(service: str, operation: str, parameters: Properties) -> Properties:
    """The parameters as the real service takes them; CloudFormation writes numbers as text.

    Raises:
        ValueError: the service has no such member, or the value is none of those it knows.
    """
    model = _SESSION.get_service_model(service).operation_model(operation)

    def walk(shape: Any, value: Any, path: str) -> Any:
        if shape.type_name == "structure" and isinstance(value, dict):
            unknown = sorted(set(value) - set(shape.members))
            if unknown:
                raise ValueError(f"{service} {operation}: unknown {unknown} at {path or '/'}")
            missing = sorted(set(shape.required_members) - set(value))
            if missing:
                raise ValueError(f"{service} {operation}: {missing} is missing at {path or '/'}")
            return {key: walk(shape.members[key], item, f"{path}.{key}") for key, item in value.items()}
        if shape.type_name == "list" and isinstance(value, list):
            return [walk(shape.member, item, f"{path}[]") for item in value]
        if shape.type_name in ("integer", "long") and isinstance(value, str):
            return int(value)
        if shape.type_name == "boolean" and isinstance(value, str):
            return value.lower() == "true"
        if shape.type_name == "string" and shape.enum and value not in shape.enum:
            raise ValueError(f"{service} {operation}: {value!r} at {path} is none of {shape.enum}")
        if shape.type_name == "string" and isinstance(value, int):
            return str(value)
        return value

    result: Properties = walk(model.input_shape, parameters, "")
    return result


def added(kind: str, create: Any, delete: Any, update: Any = None) -> None:
    """Adds a type; without `update`, a change replaces the resource."""

    def replace(physical_id: str, old: Properties, new: Properties, stack: str) -> Any:
        made = create(physical_id, new, stack)
        delete(physical_id, old)
        return made

    HANDLERS[kind] = {"create": create, "delete": delete, "update": update or replace}
