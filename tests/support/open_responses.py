"""Validation against the types of the Open Responses specification in the package openresponses-types."""

from __future__ import annotations

from typing import Any

import openresponses_types as types
from pydantic import BaseModel


def _type_of(model: type[BaseModel]) -> str:
    """Returns the only value of the field `type`."""
    kind: Any = model.model_fields["type"].annotation
    (value,) = kind
    return str(value.value)


_EVENTS: dict[str, type[BaseModel]] = {
    _type_of(model): model
    for name, model in vars(types).items()
    if name.endswith("StreamingEvent") and isinstance(model, type)
}


def check_response(response: dict[str, Any]) -> None:
    """Validates a response.

    Raises:
        pydantic.ValidationError: it is not as the specification says.
    """
    types.ResponseResource.model_validate(response)


def check_events(events: list[dict[str, Any]]) -> set[str]:
    """Validates the events that the specification knows, and returns the types of the others.

    Raises:
        pydantic.ValidationError: an event is not as the specification says.
    """
    for event in events:
        if event["type"] in _EVENTS:
            _EVENTS[event["type"]].model_validate(event)
    return {event["type"] for event in events} - set(_EVENTS)
