"""Parses an answer strictly: anything other than one complete answer or one clear error is `Wrong`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.soak.client import Response

Json = dict[str, Any]

_HEARTBEATS = re.compile(r"(?:^|(?<=\n\n))(?:: keep-alive\n)+")
_ERROR_KEYS = {"message", "type", "param", "code"}


class Wrong(Exception):
    """The answer violates a rule, which the message names."""


@dataclass(slots=True)
class Reply:
    """The content of an answer. A stream may be cut off after its finish, before the usage."""

    text: str = ""
    calls: list[Json] = field(default_factory=list)
    finish: str | None = None
    error: Json | None = None
    status: int = 200
    usage: Json | None = None
    events: list[Json] = field(default_factory=list)


def read(response: Response) -> Reply:
    """Parses a response.

    Raises:
        Wrong: It is neither a complete answer nor one clear error.
    """
    reply = _read_stream(response.body) if response.is_stream else _read_whole(response.status, response.body)
    if reply.finish is None and reply.error is None:
        raise Wrong(f"neither a finish nor an error: {response.body[-300:]!r}")
    return reply


def _read_whole(status: int, body: bytes) -> Reply:
    answer = json.loads(body)
    if status != 200:
        return Reply(error=_checked_error(answer.get("error")), status=status)
    (choice,) = answer["choices"]
    message = choice["message"]
    return Reply(
        text=message["content"] or "",
        calls=message.get("tool_calls") or [],
        finish=choice["finish_reason"],
        usage=_checked_usage(answer["usage"]),
        events=(answer.get("tandem") or {}).get("events", []),
    )


def _read_stream(body: bytes) -> Reply:
    if not body.endswith(b"\n\n"):
        raise Wrong(f"the stream ends in the middle of an event: {body[-300:]!r}")
    reply = Reply()
    identities: set[tuple[str, int, str]] = set()
    roles = 0
    payloads = [block.removeprefix("data: ") for block in _events(body)]
    done = payloads[-1:] == ["[DONE]"]
    for payload in payloads[:-1] if done else payloads:
        chunk = json.loads(payload)
        if reply.error or (reply.finish and chunk.get("choices")):
            raise Wrong(f"an event after the end: {payload}")
        if "error" in chunk:
            reply.error = _checked_error(chunk["error"])
            continue
        identities.add((chunk["id"], chunk["created"], chunk["model"]))
        roles += _read_chunk(chunk, reply)
    if done != (reply.error is None):
        raise Wrong("[DONE] after an error" if done else "a finish without [DONE]")
    if len(identities) > 1 or (identities and roles != 1):
        raise Wrong(f"{len(identities)} ids and {roles} roles in one answer")
    return reply


def _events(body: bytes) -> list[str]:
    blocks = _HEARTBEATS.sub("", body.decode()).removesuffix("\n\n").split("\n\n")
    for block in blocks:
        if not block.startswith("data: "):
            raise Wrong(f"not an event: {block!r}")
    return blocks


def _read_chunk(chunk: Json, reply: Reply) -> int:
    """Adds a chunk to the reply; returns the number of roles in it."""
    if "tandem" in chunk:
        reply.events.append(chunk["tandem"])
    if not chunk["choices"]:
        if "tandem" not in chunk:
            if reply.usage:
                raise Wrong("usage sent twice")
            reply.usage = _checked_usage(chunk["usage"])
        return 0
    (choice,) = chunk["choices"]
    delta = choice["delta"]
    reply.text += delta.get("content") or ""
    for call in delta.get("tool_calls") or []:
        _add_call(call, reply.calls)
    reply.finish = choice["finish_reason"]
    return int("role" in delta)


def _add_call(delta: Json, calls: list[Json]) -> None:
    if delta["index"] == len(calls):
        calls.append({"id": delta["id"], "function": {"arguments": "", **delta["function"]}})
    elif delta["index"] == len(calls) - 1:
        calls[-1]["function"]["arguments"] += delta["function"]["arguments"]
    else:
        raise Wrong(f"call {delta['index']} after {len(calls)} calls")


def _checked_error(error: Any) -> Json:
    if not isinstance(error, dict) or set(error) != _ERROR_KEYS or not error["message"] or not error["type"]:
        raise Wrong(f"not an error in OpenAI's shape: {error}")
    return error


def _checked_usage(usage: Json) -> Json:
    if usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"]:
        raise Wrong(f"the usage does not add up: {usage}")
    return usage
