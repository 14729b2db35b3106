"""Nulls for optional parameters: removed from arguments, allowed in strict schemas.

OpenAI's strict mode requires every parameter and makes the optional ones nullable, so models write null when
they mean the default.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_NULL = {"type": "null"}
_JSON_TYPES = {"object": dict, "array": list}


def without_nulls(arguments: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Returns the arguments without nulls that mean a default, including those in nested objects."""
    if not any(value is None or isinstance(value, (dict, list)) for value in arguments.values()):
        return arguments
    result: dict[str, Any] = _pruned(arguments, schema, schema)
    return result


def strict_schema(schema: Schema) -> Schema:
    """Returns the schema in the form that OpenAI's strict mode requires."""
    strict: Schema = _strict(schema)
    if "$defs" in schema:
        strict["$defs"] = {name: _strict(definition) for name, definition in schema["$defs"].items()}
    return strict


def allows_null(schema: Schema) -> bool:
    kinds = schema.get("type")
    return (
        kinds == "null"
        or (isinstance(kinds, list) and "null" in kinds)
        or any(allows_null(option) for option in schema.get("anyOf", ()))
    )


def _pruned(value: Any, schema: Schema, root: Schema) -> Any:
    schema = _matching(value, schema, root)
    if isinstance(value, list):
        items = schema.get("items", {})
        return [_pruned(item, items, root) for item in value]
    if not isinstance(value, dict):
        return value
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return {
        name: _pruned(item, properties.get(name, {}), root)
        for name, item in value.items()
        if not _means_default(item, name, properties, required)
    }


def _means_default(item: Any, name: str, properties: Schema, required: list[str]) -> bool:
    return item is None and name in properties and name not in required and not allows_null(properties[name])


def _matching(value: Any, schema: Schema, root: Schema) -> Schema:
    """Returns the schema, the one that it refers to, or the first of its options for this type of value."""
    if "$ref" in schema:
        schema = root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    for option in schema.get("anyOf", ()):
        found = _matching(value, option, root)
        if isinstance(value, _JSON_TYPES.get(found.get("type", ""), ())):
            return found
    return schema


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(option) for option in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {
        key: _strict(value) if key in ("items", "anyOf") else value
        for key, value in schema.items()
        if key not in ("default", "$defs")
    }
    if schema.get("type") == "object":
        required = schema.get("required", ())
        properties = {name: _strict(value) for name, value in schema.get("properties", {}).items()}
        strict["properties"] = {
            name: value if name in required or allows_null(value) else _nullable(value)
            for name, value in properties.items()
        }
        strict["required"] = list(properties)
        strict["additionalProperties"] = False
    return strict


def _nullable(schema: Schema) -> Schema:
    described = {key: value for key, value in schema.items() if key == "description"}
    rest = {key: value for key, value in schema.items() if key != "description"}
    return {"anyOf": [rest, _NULL], **described}
