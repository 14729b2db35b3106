"""Any request, well formed or not, gets an answer or an error, and none breaks the stand-in."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from standin_engine.app import App
from standin_engine.arguments import parse_options
from standin_engine.errors import ApiError

from .conftest import TOOL_FLAGS

ROUTES = [
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
]  # fmt: skip
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["", "x", "1", "2+2"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = """
    model messages input prompt tools tool_choice stream stream_options n max_tokens max_completion_tokens
    max_output_tokens temperature stop logprobs top_logprobs response_format parallel_tool_calls instructions
"""
SCHEMA = st.dictionaries(
    st.sampled_from(["type", "properties", "required", "enum", "items", "anyOf"]), JSON, max_size=3
)
FUNCTION = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "add"])}, optional={"parameters": JSON | SCHEMA, "description": JSON}
)
TOOL = FUNCTION.map(lambda function: {"type": "function", "function": function})
TOOLS = st.lists(TOOL | JSON | st.builds(lambda function: {"function": function}, JSON), max_size=2)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
    optional={
        "content": JSON,
        "tool_calls": JSON,
        "tool_call_id": JSON,
        "name": JSON,
        "type": JSON,
        "output": JSON,
    },
)
BODY = st.dictionaries(st.sampled_from(FIELDS.split()), JSON, max_size=5) | st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, min_size=1, max_size=4)},
    optional={
        "tools": TOOLS | JSON,
        "text": st.builds(lambda wanted: {"format": wanted}, JSON),
        "tool_choice": st.sampled_from(
            ["auto", "none", "required", {"type": "function", "function": {"name": "x"}}]
        ),
        "input": st.lists(MESSAGE | JSON, max_size=3),
        "prompt": JSON,
    },
)


@given(path=st.sampled_from(ROUTES), body=BODY)
@example("/v1/completions", {"prompt": "", "stop": True})
@example("/v1/chat/completions", {"messages": [], "stop": ["x", 1]})
def test_any_body_gets_an_answer_or_an_error(path: str, body: dict[str, Any]) -> None:
    app = App(parse_options(["m", *TOOL_FLAGS], {}))
    try:
        work = app.work_for(path, body)
    except ApiError as refused:
        status = refused.status
    else:
        status = 200
        json.dumps(work.whole())
        events = work.stream()
        assert [event for step in events.steps for event in step]
    assert status in (200, 400, 404)
