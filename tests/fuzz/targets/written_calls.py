"""Engine text: call markup, quotation marks and brackets, repeated thousands of times in small deltas.

It costs CPU time linear in its length, all of it reaches the client, and only a call at its end is run.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.engine_replies import good
from tests.fuzz.oracle import payloads, text_of
from tests.fuzz.rig import Failure, Meter, Rig, check_error
from tests.fuzz.target import Case, Target
from tests.support.scripted_engine import stream, text, whole

_TOOL = {"type": "function", "function": {"name": "calculate_math"}}
TOKENS = (
    "<tool_call>", "</tool_call>", '{"name": "calculate_math", "arguments": {"expression": "1"}}',
    '{"tool":', "{", "}", "[", "]", '"', "\\", "`", "```", "````", "~~~", "> ", "- ", "\n", "\n\n", " ",
    "<|im_end|>", "<|tool_call>", "<tool_call|>", "<function=", "</function>", "<think>", "</think>",
    "[TOOL_CALLS]", "call:", "x", "é", "😀", "<", "|", ">", "<!--", "    ",
)  # fmt: skip


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    runs = draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4),
                st.sampled_from((1, 1, 1, 2, 50, 3000)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return {
        "runs": [["".join(tokens), times] for tokens, times in runs],
        "size": draw(st.sampled_from((1, 3, 20, 4000))),
        "stream": draw(st.booleans()),
    }


def check(rig: Rig, case: Case) -> None:
    content = "".join(run * times for run, times in case["runs"])[:20_000]
    size = max(case["size"], len(content) // 5000)  # 5,000 deltas take less than a second
    meter = Meter(rig)
    rig.run(_ask(rig, content, size, streams=case["stream"]))
    meter.check()


async def _ask(rig: Rig, content: str, size: int, *, streams: bool) -> None:
    deltas = [content[at : at + size] for at in range(0, len(content), size)]
    rig.engine.replies.clear()
    rig.engine.play(stream(*text(*deltas)) if streams else whole(content))
    rig.engine.otherwise = good
    rig.asked()
    payload: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [_TOOL],
        "stream": streams,
    }
    answer = await rig.post_json("/v1/chat/completions", payload)
    if answer.status >= 400:
        check_error(answer)
    if answer.status != 200 or not answer.whole:
        raise Failure(f"text became status {answer.status}: {answer.body[-300:]!r}")
    called = len(rig.asked()) > 1
    if called and not content.rstrip().endswith(("</tool_call>", "}")):
        raise Failure("text that does not end with a call was taken for one")
    if streams and not called:
        got = payloads(answer.body)
        if not got or got[-1] != b"[DONE]":
            raise Failure(f"the stream has no end: {answer.body[-300:]!r}")
        if text_of(got) != content:
            raise Failure(f"{len(text_of(got))} of {len(content)} characters reached the client")


TARGET = Target("written_calls", _cases(), check)
