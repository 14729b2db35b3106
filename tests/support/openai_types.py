"""Strict validation against the types of the official openai package, as strict clients do it."""

from __future__ import annotations

from typing import Any, get_args

from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter

_KINDS: dict[str, type[BaseModel]] = {
    "chat.completion": ChatCompletion,
    "chat.completion.chunk": ChatCompletionChunk,
    "text_completion": Completion,
    "model": Model,
    "response": Response,
}
_ADAPTERS = {kind: TypeAdapter[BaseModel](model) for kind, model in _KINDS.items()}
_ERROR: TypeAdapter[ErrorObject] = TypeAdapter(ErrorObject)
_RESPONSE_EVENTS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(ResponseStreamEvent)[0])
}
_EMBEDDINGS: TypeAdapter[CreateEmbeddingResponse] = TypeAdapter(CreateEmbeddingResponse)


def check(value: dict[str, Any]) -> str:
    """Validates an answer, a chunk or an error, and returns its kind.

    Raises:
        pydantic.ValidationError: a field has another type than in the package, or is missing.
        KeyError: the package has no type for this object.
    """
    if "error" in value and "object" not in value:
        assert set(value) == {"error"}
        _ERROR.validate_python(value["error"], strict=True)
        return "error"
    kind = str(value["object"])
    if kind == "list":
        if "usage" in value:
            _EMBEDDINGS.validate_python(value, strict=True)
        else:
            for entry in value["data"]:
                check(entry)
        return kind
    _ADAPTERS[kind].validate_python(value, strict=True)
    return kind


def check_response_events(events: list[dict[str, Any]]) -> list[str]:
    """Validates the events of a streamed response, and returns their types.

    Checks each event's type, and what the package's own client and its peers depend on: the numbers, one
    lifecycle with the same id, items that are added before they change and done before the end, and deltas
    that add up to the text at the end.

    Raises:
        AssertionError, pydantic.ValidationError: an event is not as the package expects it.
    """
    for event in events:
        _RESPONSE_EVENTS[event["type"]].model_validate(event, strict=True)
    kinds = [str(event["type"]) for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert kinds[:2] == ["response.created", "response.in_progress"]
    ends = [kind for kind in kinds if kind in _ENDS]
    assert ends == kinds[-1:]
    bare = [event for event in events if "response" in event]
    assert len(bare) == 3
    assert len({event["response"]["id"] for event in bare}) == 1
    assert events[-1]["response"]["status"] == kinds[-1].removeprefix("response.")
    output = events[-1]["response"]["output"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["item"] for event in sorted(done, key=lambda event: event["output_index"])] == output
    indices = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert indices == list(range(len(output)))
    ids = [item["id"] for item in output]
    assert len(set(ids)) == len(ids)
    for index, item in enumerate(output):
        _check_item([event for event in events if event.get("output_index") == index], item)
    return kinds


_ENDS = ("response.completed", "response.incomplete", "response.failed", "error")
_TEXTS = {
    "output_text": "text", "reasoning_text": "text", "function_call_arguments": "arguments",
    "mcp_call_arguments": "arguments",
}  # fmt: skip


def _check_item(events: list[dict[str, Any]], item: dict[str, Any]) -> None:
    """Checks the events of one output item."""
    assert events[0]["type"] == "response.output_item.added"
    assert events[-1]["type"] == "response.output_item.done"
    assert {event.get("item_id", item["id"]) for event in events} == {item["id"]}
    assert events[0]["item"]["id"] == item["id"]
    assert events[0]["item"]["type"] == item["type"]
    for name, field in _TEXTS.items():
        ends = [event for event in events if event["type"] == f"response.{name}.done"]
        deltas = [event["delta"] for event in events if event["type"] == f"response.{name}.delta"]
        assert len(ends) <= 1
        assert "".join(deltas) == (ends[0][field] if ends else "")
        if ends:
            shown = item.get("arguments") if field == "arguments" else item["content"][0]["text"]
            assert shown == ends[0][field]
