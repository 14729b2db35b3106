"""Text to tokens and back: about one token a word, digit or mark, the same every time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

_TOKEN = re.compile(r"</?tool_call>|\s?\d|\s?[^\W\d]{1,12}|\s?[^\w\s]|\s+")


def tokenize(text: str) -> list[str]:
    """Splits text into tokens; joined they give the text again."""
    return _TOKEN.findall(text)


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list on a line each."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def prompt_tokens(messages: Iterable[Mapping[str, Any]], tools: list[dict[str, Any]]) -> list[str]:
    """The tokens of a chat prompt: the tools, then each message's role, text and calls."""
    parts = [orjson.dumps(tools).decode()] if tools else []
    for message in messages:
        parts += [str(message.get("role")), content_text(message.get("content"))]
        if message.get("tool_calls"):
            parts.append(orjson.dumps(message["tool_calls"]).decode())
    return tokenize("\n".join(parts))
