"""Converts text to tokens and back, deterministically: about one token per word, digit or mark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

_TOKEN = re.compile(r"</?tool_call>|\s?\d|\s?[^\W\d]{1,12}|\s?[^\w\s]|\s+")


def tokenize(text: str) -> list[str]:
    """Splits text into tokens, which concatenate to the text."""
    return _TOKEN.findall(text)


def content_text(content: Any) -> str:
    """Returns the text of a message's content: a string, or a list's text parts on one line each."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def prompt_tokens(messages: Iterable[Mapping[str, Any]], tools: list[dict[str, Any]]) -> list[str]:
    """Returns the tokens of a chat prompt: the tools, then each message's role, text and calls."""
    parts = [orjson.dumps(tools).decode()] if tools else []
    for message in messages:
        parts += [str(message.get("role")), content_text(message.get("content"))]
        if message.get("tool_calls"):
            parts.append(orjson.dumps(message["tool_calls"]).decode())
    return tokenize("\n".join(parts))
