"""A tool's value as the text of its message."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json


def render(value: Any, limit: int) -> str:
    """`value` as text of at most `limit` bytes of UTF-8, plus a note if it was cut.

    A string stays as it is. Anything else becomes JSON: models, dataclasses, dates, decimals (as
    strings) and integers of any size (orjson refuses those above 64 bits).

    Raises:
        ValueError: the value, or something in it, has no JSON form.
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
    """`{"error": message}`, where the message is cut like a result."""
    return to_json({"error": render(message, limit)}).decode()
