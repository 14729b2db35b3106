"""Schemas of clients: with references to a trap, in every place that takes a schema.

Nothing is fetched, the engine gets the client's schema unchanged, and the answer is quick.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.engine_replies import good
from tests.fuzz.rig import Failure, Meter, Rig, check_error
from tests.fuzz.target import Case, Target
from tests.support.scripted_engine import call, call_deltas, stream, whole

_TRAP = "TRAP"
_KEYWORDS = (
    "$schema", "$ref", "$dynamicRef", "$recursiveRef", "$id", "id", "$anchor", "$defs", "definitions",
    "type", "properties", "items", "required", "enum", "const", "default", "pattern", "patternProperties",
    "additionalProperties", "anyOf", "oneOf", "allOf", "not", "if", "then", "format", "minimum",
    "maxLength", "multipleOf", "uniqueItems", "$vocabulary", "contentSchema",
)  # fmt: skip
_WORDS = st.sampled_from(
    (
        _TRAP, f"{_TRAP}#/a", "#", "#/$defs/a", "file:///etc/hostname", "object", "string", "null", "date",
        "(a+)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "http://json-schema.org/draft-07/schema#", "expression",
        "[", "x" * 300,
    )
)  # fmt: skip
_SCHEMAS = st.recursive(
    _WORDS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYWORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
_CASES = st.fixed_dictionaries(
    {
        "schema": st.dictionaries(st.sampled_from(_KEYWORDS), _SCHEMAS, min_size=1, max_size=5),
        "place": st.sampled_from(("client", "server", "both", "response_format")),
        "stream": st.booleans(),
        "strict": st.booleans(),
        "depth": st.sampled_from((0, 0, 0, 0, 30, 120)),
        "arguments": st.sampled_from(('{"expression": "6*7"}', '{"expression": null}', "[]", "{", "", '""')),
    }
)


def check(rig: Rig, case: Case) -> None:
    meter = Meter(rig)
    visits = rig.trap.visits
    rig.run(_ask(rig, case))
    if rig.trap.visits > visits:
        raise Failure("the server fetched an address in a client's schema")
    meter.check()


def _with_trap(value: Any, url: str) -> Any:
    if isinstance(value, str):
        return value.replace(_TRAP, url)
    if isinstance(value, list):
        return [_with_trap(item, url) for item in value]
    if isinstance(value, dict):
        return {key: _with_trap(item, url) for key, item in value.items()}
    return value


def _payload(case: Case, schema: Any) -> dict[str, Any]:
    def tool(name: str) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {"name": name, "parameters": schema, "strict": case["strict"]},
        }

    payload: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": case["stream"],
        "tools": {
            "client": [tool("mine")],
            "server": [tool("calculate_math")],
            "both": [tool("mine"), tool("calculate_math")],
            "response_format": [{"type": "function", "function": {"name": "calculate_math"}}],
        }[case["place"]],
    }
    if case["place"] == "response_format":
        wanted = {"name": "x", "schema": schema, "strict": case["strict"]}
        payload["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return payload


async def _ask(rig: Rig, case: Case) -> None:
    schema = _with_trap(case["schema"], rig.trap.url)
    for _ in range(case["depth"]):
        schema = {"properties": {"x": schema}}
    rig.engine.replies.clear()
    rig.engine.otherwise = good
    if case["place"] != "client":
        arguments = case["arguments"]
        calls = stream(*call_deltas("calculate_math", arguments), finish="tool_calls")
        rig.engine.play(calls if case["stream"] else whole(calls=[call("calculate_math", arguments)]))
    rig.asked()
    answer = await rig.post_json("/v1/chat/completions", _payload(case, schema))
    if answer.status >= 400:
        check_error(answer)
    elif answer.status != 200 or not answer.whole or b'"error"' in answer.body[-300:]:
        raise Failure(f"status {answer.status}, ends with {answer.body[-300:]!r}")
    for request in rig.asked():
        for tool in request.json.get("tools", []):
            function = tool["function"]
            if function["name"] == "mine" and function["parameters"] != schema:
                raise Failure(f"the engine got another schema: {function['parameters']!r:.300}")


TARGET = Target("schemas", _CASES, check)
