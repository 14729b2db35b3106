"""The schemas in the API's description accept what clients send, and reject what no engine takes."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema_rs import validator_for

from orchestrator.api.body_schemas import COMPLETION_BODY, EMBEDDINGS_BODY, RESPONSES_BODY, chat_body

CHAT = chat_body(["get_current_weather"])
ASKED = [{"role": "user", "content": "Hi"}]
OWN = {"type": "function", "function": {"name": "send_email", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (CHAT, CHAT["example"]),
        (CHAT, {"messages": ASKED, "a_new_field": 1}),
        (CHAT, {"messages": ASKED, "tools": [OWN]}),
        (CHAT, {"messages": ASKED, "tool_choice": "auto"}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}),
        (COMPLETION_BODY, {"prompt": ["a", "b"]}),
        (EMBEDDINGS_BODY, {"input": "a"}),
        (RESPONSES_BODY, {"input": "a", "instructions": None}),
    ],
)
def test_accepted(schema: Any, body: Any) -> None:
    validator_for(schema).validate(body)


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (CHAT, {}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": [{"content": "no role"}]}),
        (CHAT, {"messages": ASKED, "tools": [{"type": "function"}]}),
        (CHAT, {"messages": ASKED, "tool_choice": "sometimes"}),
        (COMPLETION_BODY, {"prompt": []}),
        (EMBEDDINGS_BODY, {"input": 1}),
        (RESPONSES_BODY, {"input": []}),
    ],
)
def test_rejected(schema: Any, body: Any) -> None:
    assert not validator_for(schema).is_valid(body)
