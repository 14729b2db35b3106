"""Renders the value that a tool returned as text for the model."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

_ROOM_FOR_NOTE = 128


def render(value: Any, limit: int) -> str:
    """Returns `value` as text of at most `limit` bytes of UTF-8, plus a note if it was truncated.

    A string is returned unchanged. Anything else becomes JSON, including models, dataclasses, dates, decimals
    (as strings) and integers of any size (orjson rejects those above 64 bits).

    Raises:
        ValueError: the value, or something in it, cannot be converted to JSON.
    """
    if isinstance(value, str):
        data = value.encode(errors="replace")  # a lone surrogate has no UTF-8
    else:
        data = to_json(value, inf_nan_mode="strings", bytes_mode="base64")
    if len(data) <= limit:
        return data.decode()
    kept = data[:limit].decode(errors="ignore")
    return f"{kept}\n[cut here: {len(data) - len(kept.encode()):,} of {len(data):,} bytes are left out]"


def render_error(message: str, limit: int) -> str:
    """Returns `{"error": message}` in at most `limit` bytes of UTF-8, plus the note of a truncated result."""
    text = render(message, limit)
    kept = limit
    while len(encoded := to_json({"error": text})) > limit + _ROOM_FOR_NOTE and kept > 0:
        kept //= 2  # control characters take six bytes each in JSON
        text = render(message, kept)
    return encoded.decode()
