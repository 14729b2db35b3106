"""Request bodies: JSON with values where they do not belong, then bytes where they do not belong.

Each gets a 200 or an error of the client's, in bounded CPU time; invalid JSON gets a 4xx.
"""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
from hypothesis import strategies as st

from tests.fuzz.engine_replies import good
from tests.fuzz.mutate import Edit, edits, mutated
from tests.fuzz.rig import Failure, Meter, Rig, check_error
from tests.fuzz.target import Case, Target

_SERVER_TOOL = {"type": "function", "function": {"name": "calculate_math"}}
_CLIENT_TOOL = {
    "type": "function",
    "function": {"name": "mine", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
}
_CALL = {"id": "call-1", "type": "function", "function": {"name": "calculate_math", "arguments": "{}"}}
_ASKED: list[Any] = [{"role": "user", "content": "Hi"}]
_HISTORY = [
    *_ASKED,
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "call-1", "content": [{"type": "text", "text": "56088"}]},
]
_CHAT = "/v1/chat/completions"
BASES: tuple[tuple[str, dict[str, Any]], ...] = (
    (_CHAT, {"messages": _ASKED, "model": "scripted", "stream": True}),
    (_CHAT, {"messages": _ASKED, "stream": True, "stream_options": {"include_usage": True}}),
    (_CHAT, {"messages": _HISTORY, "tools": [_SERVER_TOOL], "tandem": {"events": True}, "n": 1}),
    (_CHAT, {"messages": _HISTORY, "tools": [_SERVER_TOOL, _CLIENT_TOOL], "stream": True}),
    (_CHAT, {"messages": _ASKED, "tools": [_SERVER_TOOL], "tool_choice": {"type": "function"}}),
    (_CHAT, {"messages": _ASKED, "tools": [_SERVER_TOOL], "response_format": {"type": "json_object"}}),
    (_CHAT, {"messages": _ASKED, "tools": [_SERVER_TOOL], "tool_choice": "required", "stream": True}),
    ("/v1/completions", {"prompt": "Hi", "stream": True, "stream_options": {}}),
    ("/v1/embeddings", {"input": ["Hi"]}),
    ("/v1/responses", {"input": "Hi", "tools": []}),
)
TOKENS = (
    "{", "}", "[", "]", '"', ",", ":", "\\", "\\u0000", "\\ud800", "null", "true", "NaN", "Infinity",
    "1e999", "-", "0" * 400, "9" * 5000, "\0", "\xff\xfe", "\xed\xa0\x80", "[" * 2000, '{"a":' * 2000,
    "[[]," * 4000, '"x":1,' * 4000, "x" * 70_000,
)  # fmt: skip
_SMALL = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
_NAMES = st.sampled_from(
    ("messages", "role", "content", "tools", "function", "name", "parameters", "stream", "n", "tool_choice",
     "tool_calls", "type", "arguments", "id", "response_format", "tandem", "max_tokens", "logprobs")
)  # fmt: skip
_VALUES = st.recursive(
    _SMALL,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
_CHANGES = st.lists(st.tuples(st.lists(st.integers(0, 5), max_size=6), _NAMES, _VALUES), max_size=3)


def _changed(value: Any, path: list[int], name: str, new: Any) -> None:
    """Puts `new` into a copy-safe `value`, at a place that the path's numbers choose."""
    if isinstance(value, dict):
        keys = list(value)
        if path and keys:
            key = keys[path[0] % len(keys)]
            if len(path) > 1 and isinstance(value[key], dict | list):
                _changed(value[key], path[1:], name, new)
            else:
                value[key] = new
        else:
            value[name] = new
    elif path and value:
        index = path[0] % len(value)
        if len(path) > 1 and isinstance(value[index], dict | list):
            _changed(value[index], path[1:], name, new)
        else:
            value[index] = new
    else:
        value.append(new)


def _case(
    base: tuple[str, dict[str, Any]],
    changes: list[tuple[list[int], str, Any]],
    last: list[Edit],
    coding: str,
    times: int,
    damage: list[Edit],
) -> Case:
    path, payload = base[0], copy.deepcopy(base[1])
    for where, name, new in changes:
        _changed(payload, where, name, new)
    body = mutated(json.dumps(payload).encode(), last)
    case: Case = {"path": path, "body": body.decode("latin-1")}
    if coding:
        sent = mutated(_CODINGS[coding](body + b" " * times), damage)
        case |= {"coding": coding, "sent": sent.decode("latin-1"), "damaged": bool(damage)}
    return case


_CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "br, gzip": lambda data: gzip.compress(brotli.compress(data)),
}
_CASES = st.builds(
    _case,
    st.sampled_from(BASES),
    _CHANGES,
    edits(TOKENS, most=2),
    st.sampled_from(("", "", "", *_CODINGS)),
    st.sampled_from((0, 0, 0, 1000, 900_000, 4_000_000)),
    st.just([]) | edits(("\0", "\xff"), most=1),
)


def check(rig: Rig, case: Case) -> None:
    meter = Meter(rig)
    rig.run(_send(rig, case))
    meter.check()


async def _send(rig: Rig, case: Case) -> None:
    rig.engine.otherwise = good
    body = case["body"].encode("latin-1")
    fields = [f"Content-Encoding: {case['coding']}"] if "coding" in case else []
    sent = case["sent"].encode("latin-1") if "coding" in case else body
    answer = await rig.post(case["path"], sent, *fields)
    asked = rig.asked()
    if answer.status >= 400:
        check_error(answer)
    elif answer.status != 200:
        raise Failure(f"unexpected status {answer.status}")
    elif not answer.whole or b'"error"' in answer.body:
        raise Failure(f"a correct answer of the engine became {answer.body[-300:]!r}")
    if asked and not case.get("damaged") and not _is_object(body):
        raise Failure("the engine was asked, although the body is not a JSON object")
    for request in asked:
        if not _is_object(request.body):
            raise Failure(f"the engine got a body that is not a JSON object: {request.body[:300]!r}")


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except RecursionError:
        return True
    except ValueError as error:
        return "digits" in str(error)  # Python's limit for integers, which JSON does not have


TARGET = Target("bodies", _CASES, check)
