"""Every answer, chunk and error has the types of the openai package, as strict clients need it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.clients.support import EMAIL, WEATHER
from tests.support.live import events_of
from tests.support.openai_types import check
from tests.support.processes import MODEL, Service

MATH = {"type": "function", "function": {"name": "calculate_math"}}
QUESTIONS = ["Hi", "What is 6*7?", "Weather in Paris and in Oslo?", "Mail a@example.com that I am late"]
FIELDS: list[dict[str, Any]] = [
    {},
    {"tools": [MATH, WEATHER]},
    {"tools": [MATH, EMAIL]},
    {"tools": [EMAIL], "tool_choice": "required"},
    {"tools": [MATH], "tool_choice": "required", "parallel_tool_calls": False},
    {"logprobs": True, "top_logprobs": 2},
    {"tools": [MATH], "logprobs": True},
    {"tools": [MATH], "max_tokens": 3},
    {"max_tokens": 1},
    {"n": 2},
    {"response_format": {"type": "json_object"}},
    {"tools": [MATH], "tandem": {"events": True}},
    {"standin": {"status": 429}},
    {"tools": [MATH], "standin": {"status": 500}},
    {"messages": []},
    {"model": "gpt-9"},
    {"tools": [{"type": "function"}]},
    {"temperature": -1},
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "Hi"}),
    ("/v1/completions", {"prompt": ["Hi", "Ho"], "logprobs": 1}),
    ("/v1/completions", {}),
    ("/v1/responses", {"input": "Hi"}),
    ("/v1/responses", {"input": 1}),
    ("/v1/embeddings", {"input": "Hi"}),
    ("/v1/nothing", {}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: ",".join(fields) or "plain")
def test_chat_has_the_packages_types(tandem: Service, fields: dict[str, Any], stream: bool) -> None:
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    for question in QUESTIONS:
        request = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stream": stream}
        answer = httpx.post(f"{tandem.url}/v1/chat/completions", json=request | usage | fields, timeout=20)
        if answer.headers["content-type"].startswith("text/event-stream"):
            events = events_of(answer.text)
            assert {check(event) for event in events if isinstance(event, dict)} <= {
                "chat.completion.chunk",
                "error",
            }
        else:
            assert check(answer.json()) == ("chat.completion" if answer.status_code == 200 else "error")


@pytest.mark.parametrize(("path", "request_"), OTHERS)
def test_other_routes_have_the_packages_types(tandem: Service, path: str, request_: dict[str, Any]) -> None:
    answer = httpx.post(f"{tandem.url}{path}", json={"model": MODEL, **request_}, timeout=20)
    assert (check(answer.json()) == "error") == (answer.status_code != 200)


def test_models_have_the_packages_types(tandem: Service) -> None:
    assert check(httpx.get(f"{tandem.url}/v1/models").json()) == "list"
    assert check(httpx.get(f"{tandem.url}/v1/models/{MODEL}").json()) == "model"
    assert check(httpx.get(f"{tandem.url}/v1/models/x").json()) == "error"
