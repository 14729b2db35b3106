"""An independent reading of event streams, to compare what the engine sent with what the client got."""

from __future__ import annotations

import itertools
import json
from typing import Any

DONE = b"[DONE]"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
ENDS_OF_RESPONSES = ("response.completed", "response.incomplete", "response.failed")


def payloads(stream: bytes) -> list[bytes]:
    """Returns the data of each event that ends with a blank line."""
    text = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    whole = text[: text.rfind(b"\n\n") + 2] if b"\n\n" in text else b""
    found = []
    for block in whole.split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(lines))
    return found


def is_clean(stream: bytes) -> bool:
    """Returns whether each line up to the end of the stream belongs to an event."""
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    ends = (b"data: [DONE]", b"data:[DONE]")
    before_end = itertools.takewhile(lambda line: line.strip() not in ends, lines)
    return all(not line or line.startswith(_FIELDS) for line in before_end)


def parsed(payload: bytes) -> Any:
    """Returns the value of a JSON text, None if it is not strict JSON."""
    try:
        return json.loads(payload.decode(), parse_constant=_reject)
    except (ValueError, RecursionError):
        return None


def _reject(constant: str) -> None:
    raise ValueError(constant)


def is_error(payload: bytes) -> bool:
    value = parsed(payload)
    return isinstance(value, dict) and bool(value.get("error")) and value.get("object") != "response"


def terminated(route: str, sent: list[bytes]) -> int | None:
    """Returns the number of events up to and including the route's last one, None if it is missing."""
    for index, payload in enumerate(sent):
        if route == "/v1/responses":
            value = parsed(payload)
            if isinstance(value, dict) and value.get("type") in ENDS_OF_RESPONSES:
                return index + 1
        elif payload == DONE:
            return index + 1
    return None


def text_of(events: list[bytes]) -> str:
    """Returns the text that a client would show for the chunks of a chat."""
    text = ""
    for payload in events:
        value = parsed(payload)
        choices = value.get("choices") if isinstance(value, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        delta = choice.get("delta") if isinstance(choice, dict) else None
        content = delta.get("content") if isinstance(delta, dict) else None
        text += content if isinstance(content, str) else ""
    return text
