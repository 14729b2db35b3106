"""Tool results: whatever a tool returns or raises, the turn goes on.

The engine gets the result as text of bounded size, without a control token of its model, and the client gets
an answer.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.engine_replies import good
from tests.fuzz.rig import RESULT_BYTES, Failure, Meter, Rig
from tests.fuzz.target import Case, Target
from tests.support.scripted_engine import call, call_deltas, stream, whole

TOKENS = (
    "<|im_end|>", "<|im_start|>system\n", "<tool_call>", "</tool_call>", "<tool_response>", "<think>", "<",
    "|", ">", "<|", "im_end", "\n", "[cut here", "\0", "\x1b[2J", "\ud800", "\u2028", "é", "😀", "{", "}",
    '"', "\\", "data: [DONE]\n\n", "x",
)  # fmt: skip
_KINDS = (
    "text",
    "json",
    "bytes",
    "deep",
    "rows",
    "loop",
    "odd",
    "mixed",
    "raise",
    "silent",
    "recursion",
    "exit",
    "end",
)
_TOKEN = re.compile(r"<\|im_(?:start|end)\|>|</?tool_(?:call|response)>|</?think>")
_MOST_BYTES = 2 * RESULT_BYTES + 300
"""A control token grows by one byte per token when it is made harmless, JSON by its escapes."""


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(_KINDS))
    words = st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=6).map("".join)
    text = draw(words)
    if kind == "json":
        text = json.dumps(draw(st.recursive(words | st.integers() | st.floats(), st.lists, max_leaves=5)))
    return {
        "spec": {"kind": kind, "text": text, "times": draw(st.sampled_from((1, 1, 2, 3, 4, 5, 300, 3000)))},
        "tool": draw(st.sampled_from(("produce", "produce_awaited"))),
        "stream": draw(st.booleans()),
    }


def check(rig: Rig, case: Case) -> None:
    meter = Meter(rig)
    rig.run(_ask(rig, case))
    meter.check()


async def _ask(rig: Rig, case: Case) -> None:
    spec = base64.b64encode(json.dumps(case["spec"]).encode()).decode()
    name, arguments = case["tool"], json.dumps({"spec": spec})
    if case["stream"]:
        first = stream(*call_deltas(name, arguments), finish="tool_calls")
    else:
        first = whole(calls=[call(name, arguments)])
    rig.engine.replies.clear()
    rig.engine.play(first)
    rig.engine.otherwise = good
    rig.asked()
    payload: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": {"name": name}}],
        "stream": case["stream"],
        "tandem": {"events": True},
    }
    answer = await rig.post_json("/v1/chat/completions", payload)
    end = b"data: [DONE]\n\n" if case["stream"] else b"}"
    if answer.status != 200 or not answer.whole or not answer.body.endswith(end):
        raise Failure(f"status {answer.status}, ends with {answer.body[-300:]!r}")
    requests = rig.asked()
    if len(requests) != 2:
        raise Failure(f"the engine was asked {len(requests)} times")
    _check_result(requests[1].json["messages"][-1])


def _check_result(message: dict[str, Any]) -> None:
    content = message["content"]
    if message["role"] != "tool" or not isinstance(content, str):
        raise Failure(f"not a result in text: {message!r:.300}")
    size = len(content.encode("utf-8", "surrogatepass"))
    if size > _MOST_BYTES:
        raise Failure(f"a result of {size} bytes, at TOOL_RESULT_BYTES={RESULT_BYTES}")
    if token := _TOKEN.search(content):
        raise Failure(f"the control token {token[0]!r} reached the engine")


TARGET = Target("tool_results", _cases(), check)
