"""Replies of the scripted engine for the fuzz targets."""

from __future__ import annotations

from typing import Any

from tests.support.scripted_engine import Exchange, body, chunk, counts, raw_stream, whole

_TEXT = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Done."})
_STREAM = _TEXT + chunk({}, "stop") + b"data: [DONE]\n\n"
_RESPONSE = b'event: response.completed\ndata: {"type": "response.completed", "response": {"model": "m"}}\n\n'


async def good(exchange: Exchange) -> None:
    """Answers any request correctly, in the mode that it asked for, whatever else is in it."""
    request = exchange.request
    if request.json.get("stream") is True:
        await raw_stream(_RESPONSE if request.path == "/v1/responses" else _STREAM)(exchange)
    elif request.path == "/v1/chat/completions":
        await whole("Done.")(exchange)
    else:
        answer: dict[str, Any] = {"object": "list", "data": [], "model": "scripted", "usage": counts(1, 1)}
        await body(answer)(exchange)
