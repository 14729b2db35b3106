"""Describes the answers of FastAPI's routes for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from ..protocol import JsonObject

_OBJECT: JsonObject = {"type": "object"}


def json_answer(description: str, schema: JsonObject = _OBJECT) -> dict[str, Any]:
    """Returns an entry of a route's `responses`: JSON of this schema, any object unless given."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}
