"""Reads a case, plays its engine, and compares the answer with the expected one. README.md has the format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.live import events_of
from tests.support.openai_types import check
from tests.support.scripted_engine import (
    CUT,
    NO_DONE,
    Reply,
    body,
    call,
    call_deltas,
    counts,
    raw_stream,
    stream,
    text,
    whole,
)

Json = dict[str, Any]

CASES = Path(__file__).parent / "cases"
CHAT = "/v1/chat/completions"
_PIECE = 3
_FIELDS = {
    "report", "why", "settings", "path", "headers", "request", "modes", "engine", "sent", "answer",
    "stream_answer",
}  # fmt: skip
_COMMENT_EVENT = re.compile(r"^:.*\n\n", re.MULTILINE)
_REPORT = re.compile(r"(?:[\w.-]+/[\w.-]+|tandem)#\d+")


@dataclass
class Case:
    """One file. See README.md."""

    name: str
    report: str
    why: str
    request: Json
    engine: list[Json]
    answer: Json
    settings: dict[str, str] = field(default_factory=dict)
    path: str = CHAT
    headers: dict[str, str] = field(default_factory=dict)
    modes: tuple[str, ...] = ("whole", "stream")
    sent: list[Json] | None = None
    stream_answer: Json = field(default_factory=dict)

    def body(self, mode: str) -> Json:
        defaults = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
        asked = {"stream": True} if mode == "stream" else {}
        return {**(defaults if "chat/completions" in self.path else {}), **asked, **self.request}

    def expected(self, mode: str) -> Json:
        return {**self.answer, **self.stream_answer} if mode == "stream" else self.answer


def read_case(path: Path) -> Case:
    """Raises ValueError if the file has unknown fields or names no report."""
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    if unknown := value.keys() - _FIELDS:
        raise ValueError(f"{path.name}: unknown fields {sorted(unknown)}; known: {sorted(_FIELDS)}")
    if not _REPORT.fullmatch(value["report"]):
        raise ValueError(f"{path.name}: report {value['report']!r} must be like vllm-project/vllm#1")
    if "\n" in value["why"].strip():
        raise ValueError(f"{path.name}: why must be one line")
    return Case(name=path.stem, **value)


def reply_of(script: Json, mode: str) -> Reply:
    """Returns the engine's reply that a case scripts."""
    if "status" in script:
        return body(script.get("body", b""), script["status"], **script.get("headers", {}))
    if "json" in script:
        return body(script["json"])
    if "sse" in script:
        return raw_stream(script["sse"].encode(), script.get("split"))
    usage = tuple(script.get("usage", (10, 5)))
    if mode == "stream":
        deltas = [_special(delta) for delta in script["deltas"]] if "deltas" in script else _deltas(script)
        return stream(*deltas, finish=_finish(script), usage=usage)
    if "message" in script:
        return _message(script, usage)
    calls = [call(*one) for one in script.get("calls", [])] or None
    said = {"reasoning": script["reasoning"]} if "reasoning" in script else {}
    return whole(script.get("content"), calls=calls, finish=_finish(script), usage=usage, **said)


def _message(script: Json, usage: tuple[int, ...]) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", **script["message"]}}
    choice["finish_reason"] = _finish(script)
    envelope = {"id": "chatcmpl-scripted", "object": "chat.completion", "created": 1, "model": "scripted"}
    return body({**envelope, "choices": [choice], "usage": counts(*usage)})


def _finish(script: Json) -> str:
    return str(script.get("finish") or ("tool_calls" if script.get("calls") else "stop"))


def _special(delta: Any) -> Any:
    return {"CUT": CUT, "NO_DONE": NO_DONE}.get(delta, delta) if isinstance(delta, str) else delta


def _deltas(script: Json) -> list[Json]:
    deltas = [{"reasoning": piece} for piece in _pieces(script.get("reasoning") or "")]
    deltas += text(*_pieces(script.get("content") or ""))
    for index, one in enumerate(script.get("calls", [])):
        name, arguments, *id = one
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        deltas += call_deltas(name, written, index, *(id or ["call-1"]))
    return deltas


def _pieces(content: str) -> list[str]:
    return [content[at : at + _PIECE] for at in range(0, len(content), _PIECE)]


def shown(answer: Any, mode: str) -> Json:
    """Returns what a client sees, in the form of `answer`, and checks what holds for every answer."""
    result: Json = {"status": answer.status_code, "headers": dict(answer.headers)}
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        value = answer.json() if answer.content else {}
        if "error" in value:
            check(value)
            return {**result, "error": value["error"]}
        if value.get("object") == "chat.completion":
            check(value)
            result |= _of_message(value["choices"][0]["message"], value["choices"][0]["finish_reason"])
            result["usage"] = value["usage"]
        return {**result, "body": value}
    assert not _COMMENT_EVENT.search(answer.text), "an event of nothing but a comment"
    return {**result, **_of_stream(events_of(answer.text))}


def _of_stream(events: list[Json | str]) -> Json:
    message: Json = {"content": None}
    result: Json = {"done": events[-1:] == ["[DONE]"], "events": [e for e in events if isinstance(e, dict)]}
    calls: dict[int, Json] = {}
    finishes, roles, ids = [], 0, set()
    for chunk in result["events"]:
        if "error" in chunk:
            result["error"] = chunk["error"]
        if chunk.get("object") != "chat.completion.chunk":
            continue
        check(chunk)
        ids.add(chunk["id"])
        if chunk.get("usage"):
            result["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            roles += "role" in delta
            for key in ("content", "reasoning", "reasoning_content"):
                if delta.get(key):
                    message[key] = (message.get(key) or "") + delta[key]
            for one in delta.get("tool_calls") or []:
                _merge(calls, one)
            if choice["finish_reason"]:
                finishes.append(choice["finish_reason"])
    assert len(ids) <= 1, ids
    assert roles <= 1, f"{roles} roles"
    assert len(finishes) <= 1, finishes
    assert result["done"] != ("error" in result), "a stream ends with [DONE] or an error"
    assert list(calls) == list(range(len(calls))), f"indexes {list(calls)}"
    if calls:
        message["tool_calls"] = list(calls.values())
    return {**result, **_of_message(message, finishes[0] if finishes else None)}


def _merge(calls: dict[int, Json], delta: Json) -> None:
    known = calls.setdefault(delta["index"], {"id": None, "function": {"name": "", "arguments": ""}})
    known["id"] = delta.get("id") or known["id"]
    function = delta.get("function") or {}
    known["function"]["name"] += function.get("name") or ""
    known["function"]["arguments"] += function.get("arguments") or ""


def _of_message(message: Json, finish: str | None) -> Json:
    calls = message.get("tool_calls") or []
    assert "tool_calls" not in message or message["tool_calls"] != [], "tool_calls: []"
    assert len({one["id"] for one in calls}) == len(calls), "ids of calls are repeated"
    return {
        "content": message.get("content"),
        "reasoning": message.get("reasoning") or message.get("reasoning_content"),
        "calls": [[one["function"]["name"], _parsed(one["function"]["arguments"])] for one in calls],
        "finish": finish,
    }


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def differences(expected: Any, found: Any, where: str) -> list[str]:
    """Returns where `found` lacks what is expected: a part of an object, a whole list, `~` a pattern."""
    if isinstance(expected, dict) and isinstance(found, dict):
        wrong = []
        for key, value in expected.items():
            if key == "absent":
                wrong += [f"{where}.{name} is there: {found[name]!r}" for name in value if name in found]
            else:
                wrong += differences(value, found.get(key), f"{where}.{key}")
        return wrong
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for at, pair in enumerate(zip(expected, found, strict=True))
            for line in differences(*pair, f"{where}[{at}]")
        ]
    if isinstance(expected, str) and expected.startswith("~") and isinstance(found, str):
        return [] if re.search(expected[1:], found, re.DOTALL) else [f"{where}: no {expected!r} in {found!r}"]
    return [] if expected == found else [f"{where}: expected {expected!r}, found {found!r}"]
