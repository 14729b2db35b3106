"""What the projected APIs share: framing, whole answers, and answers that cannot be encoded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.api.projected import encode
from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, call, whole

MATH: Any = {"type": "function", "name": "calculate_math"}


def test_events_are_named_by_their_type() -> None:
    assert encode([{"type": "a", "x": 1}, {"type": "b"}]) == (
        b'event: a\ndata: {"type":"a","x":1}\n\nevent: b\ndata: {"type":"b"}\n\n'
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_request_that_cannot_be_repeated_in_the_answer_is_an_error(
    server: Live, engine: ScriptedEngine, stream: bool
) -> None:
    """The answer repeats the request one level deeper than it was."""
    engine.play(whole(calls=[call("calculate_math", {"expression": "1"})]), whole("1"))
    deep: Any = json.loads('{"a":' * 250 + "1" + "}" * 250)
    body = {"model": "x", "input": "Hi", "stream": stream, "tools": [MATH]}
    answer = await server.http.post("/v1/responses", json={**body, "text": {"format": None, "more": deep}})
    assert answer.status_code in (400, 502) or "error" in answer.text
    assert "unexpected" not in answer.text
