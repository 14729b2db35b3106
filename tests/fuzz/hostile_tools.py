"""Tools of the orchestrator under attack: they return and raise whatever the fuzzer asks for."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any


class _Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


class _Odd:
    """Not JSON, and without a usable representation."""

    def __repr__(self) -> str:
        raise ValueError("no representation")


_ENDS = (
    KeyboardInterrupt,
    asyncio.CancelledError,
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
    MemoryError,
)
"""What a caller could take for its own end."""


def _made(spec: dict[str, Any]) -> Any:
    text = spec["text"] * spec["times"]
    match spec["kind"]:
        case "text":
            return text
        case "json":
            return json.loads(spec["text"])
        case "bytes":
            return text.encode("latin-1", "replace")
        case "deep":
            value: Any = text
            for _ in range(spec["times"]):
                value = [value]
            return value
        case "rows":
            return [{text[:20]: number, "text": text[:200]} for number in range(spec["times"])]
        case "loop":
            loop: list[Any] = [text]
            loop.append(loop)
            return loop
        case "odd":
            return {"value": _Odd()}
        case "mixed":
            return {1: text, None: float("nan"), (1, 2): {1, 2}, "big": 10 ** min(spec["times"], 4000)}
        case "raise":
            raise RuntimeError(text)
        case "silent":
            raise _Silent
        case "exit":
            sys.exit(text)
        case "end":
            raise _ENDS[spec["times"] % len(_ENDS)]
        case _:
            raise RecursionError(text)


def _decoded(spec: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.b64decode(spec))
    return decoded


def produce(spec: str) -> Any:
    """Return or raise what the specification describes, in a thread.

    Args:
        spec: JSON in Base64.
    """
    return _made(_decoded(spec))


async def produce_awaited(spec: str) -> Any:
    """Return or raise what the specification describes, in the event loop.

    Args:
        spec: JSON in Base64.
    """
    await asyncio.sleep(0)
    return _made(_decoded(spec))
