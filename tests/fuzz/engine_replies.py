"""Replies of the scripted engine for the fuzz targets."""

from __future__ import annotations

from typing import Any

from tests.support.scripted_engine import Exchange, body, counts, stream, text, whole


async def good(exchange: Exchange) -> None:
    """Answers any request correctly, in the mode that it asked for."""
    request = exchange.request
    streams = request.json.get("stream") is True
    if request.path == "/v1/chat/completions":
        await (stream(*text("Done", ".")) if streams else whole("Done."))(exchange)
    elif streams:
        await stream(*text("Done."))(exchange)
    else:
        answer: dict[str, Any] = {"object": "list", "data": [], "model": "scripted", "usage": counts(1, 1)}
        await body(answer)(exchange)
