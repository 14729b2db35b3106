"""Chooses engines so that requests with the same beginning meet the cache that has it.

All orchestrators choose alike without shared state, by rendezvous hashing: an engine that comes or goes moves
only its own requests. The load of each engine is bounded (Mirrokni et al., 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from ..protocol import JsonObject

_MOST_MESSAGES = 8
_MOST_CHARACTERS = 2_048
"""Of each text: two blocks of vLLM's cache. What is equal up to here shares an engine, which does no harm."""

_MULTIPLIER = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Engine(Protocol):
    """An engine to choose. `seed` is a hash of its address."""

    seed: int
    in_flight: int


E = TypeVar("E", bound=Engine)


def hash_of(text: str) -> int:
    """Returns a hash that is the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())


def prefix_of(request: JsonObject) -> int:
    """Returns a hash of a request's beginning: model, tools, system prompt and first message of the user."""
    parts = [_text(request.get("model"))]
    messages = request.get("messages")
    if isinstance(messages, list):
        for message in messages[:_MOST_MESSAGES]:
            if isinstance(message, dict):
                parts.append(_text(message.get("content")))
                if message.get("role") == "user":
                    break
    else:
        parts += [_text(request.get(field)) for field in ("instructions", "prompt", "input")]
    tools = request.get("tools")
    if isinstance(tools, list):
        parts += [_name(tool) for tool in tools]
    return hash_of("\0".join(parts))


def home(engines: Sequence[E], prefix: int) -> E:
    """Returns the engine of a prefix, however loaded it is."""
    scores = [(prefix ^ engine.seed) * _MULTIPLIER & _MASK for engine in engines]
    return engines[scores.index(max(scores))]


def most_in_flight(engines: Sequence[Engine]) -> int:
    """Returns how many requests one engine may have after one is added: 1.25 times the mean, rounded up."""
    total = sum([engine.in_flight for engine in engines]) + 1
    return -(-5 * total // (4 * len(engines)))


def _text(value: Any) -> str:
    """Returns the start of a text, or of the texts in a list of parts."""
    if isinstance(value, str):
        return value[:_MOST_CHARACTERS]
    if isinstance(value, list):
        return "".join([_text(part.get("text")) for part in value[:_MOST_MESSAGES] if isinstance(part, dict)])
    return ""


def _name(tool: Any) -> str:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return _text(function.get("name")) if isinstance(function, dict) else ""
