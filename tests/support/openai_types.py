"""Strict validation against the types of the official openai package, as strict clients do it."""

from __future__ import annotations

from typing import Any

from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
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
