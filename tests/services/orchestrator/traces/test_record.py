"""Each request becomes one trace: its rounds, tools and waits below it, whatever its end."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest

from orchestrator.traces import record as record_module
from tests.services.orchestrator.chat.loop_requests import MATH, WEATHER
from tests.support.live import live, until
from tests.support.otlp import collector, roots
from tests.support.scripted_engine import (
    CUT,
    ScriptedEngine,
    after,
    body,
    call,
    call_deltas,
    chunk,
    counts,
    cut,
    stream,
    text,
    whole,
)
from tests.support.scripted_mcp import scripted_mcp

from .traced import closed, found, traced

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "my-dog-is-called-Rex"


async def test_relay_is_a_request_with_one_chat_below(engine: ScriptedEngine) -> None:
    engine.play(whole("Hello"))
    async with traced(engine) as one:
        await one.server.chat(temperature=0.5, max_tokens=7)
        await closed(one)
        root = one.root
    assert root.tree() == ("POST /v1/chat/completions", ["chat scripted"])
    assert (root.kind, root.parent, root.failed) == ("SERVER", "", False)
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["http.route"] == "/v1/chat/completions"
    chat = root.children[0]
    assert chat.kind == "CLIENT"
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.response.model": "scripted",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 1,
        "server.address": "127.0.0.1",
        "server.port": engine.port,
    }
    # The engine's own spans belong to the attempt.
    assert engine.requests[0].headers["traceparent"] == f"00-{root.trace_id}-{chat.id}-01"


async def test_stream_knows_the_time_to_its_first_chunk(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("a", "b")))
    async with traced(engine) as one:
        await one.server.chat_events()
        await closed(one)
        chat = found(one.root, "chat")
    assert chat.attributes["gen_ai.request.stream"] is True
    assert 0 < chat.attributes["gen_ai.response.time_to_first_chunk"] < 10
    assert chat.attributes["gen_ai.usage.output_tokens"] == 5


@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_loop_has_rounds_and_tools(engine: ScriptedEngine, streamed: bool) -> None:
    if streamed:
        engine.play(
            stream(*call_deltas("calculate_math", '{"expression": "1+1"}'), finish="tool_calls"),
            stream(*text("2")),
        )
    else:
        engine.play(whole(calls=[call("calculate_math", {"expression": "1+1"}, id="c1")]), whole("2"))
    async with traced(engine) as one:
        await one.server.chat(tools=[MATH], stream=streamed)
        await closed(one)
        root = one.root
    assert root.tree() == (
        "POST /v1/chat/completions",
        [("invoke_agent tandem", ["chat scripted", "execute_tool calculate_math", "chat scripted"])],
    )
    agent = root.children[0]
    first, tool, second = agent.children
    assert (first.attributes["tandem.round"], second.attributes["tandem.round"]) == (1, 2)
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert second.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["gen_ai.tool.name"] == "calculate_math"
    assert tool.attributes["gen_ai.tool.call.id"]
    assert agent.attributes["tandem.rounds"] == 2
    assert agent.attributes["gen_ai.usage.input_tokens"] == 20
    assert first.end <= tool.start
    assert tool.end <= second.start


async def test_failed_tool_is_marked_and_the_request_is_not(engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", {"expression": "1/"})]), whole("no"))
    async with traced(engine) as one:
        await one.server.chat(tools=[MATH])
        await closed(one)
        root = one.root
    tool = found(root, "execute_tool")
    assert (tool.failed, tool.error) == (True, "error")
    assert not root.failed


async def test_tools_that_run_together_overlap(engine: ScriptedEngine) -> None:
    calls = [call("get_current_weather", {"location": city}, id=city) for city in ("Paris", "Rome")]
    engine.play(whole(calls=calls), whole("fine"))
    async with traced(engine) as one:
        await one.server.chat(tools=[WEATHER])
        await closed(one)
        agent = found(one.root, "invoke_agent")
    assert [child.name for child in agent.children].count("execute_tool get_current_weather") == 2
    assert len({child.id for child in agent.children}) == 4


async def test_mcp_tool_gets_the_context_of_its_own_span(engine: ScriptedEngine) -> None:
    async with scripted_mcp() as peer:
        servers = json.dumps([{"name": "files", "url": peer.url}])
        async with traced(engine, MCP_SERVERS=servers) as one:
            engine.play(whole(calls=[call("files__echo", {"text": "hi"})]), whole("done"))
            spec = {"type": "function", "function": {"name": "files__echo"}}
            await one.server.chat(tools=[spec], headers={"traceparent": PARENT, "tracestate": "k=v"})
            await closed(one)
            root = one.root
        asked = peer.of("tools/call")[0]
    tool = found(root, "execute_tool")
    assert (tool.name, tool.kind) == ("execute_tool files__echo", "CLIENT")
    assert tool.attributes["mcp.method.name"] == "tools/call"
    expected = f"00-{root.trace_id}-{tool.id}-01"
    assert asked.headers["traceparent"] == asked.json["params"]["_meta"]["traceparent"] == expected
    assert asked.headers["tracestate"] == "k=v"
    assert (root.trace_id, root.parent) == (PARENT[3:35], PARENT[36:52])
    assert root.state == "k=v"


async def test_call_over_mcp_belongs_to_the_trace_in_its_body(engine: ScriptedEngine) -> None:
    message = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "calculate_math", "arguments": {"expression": "1+1"}, "_meta": {"traceparent": PARENT}
        },
    }  # fmt: skip
    async with traced(engine) as one:
        answer = await one.server.http.post("/mcp", json=message)
        await closed(one)
        root = one.root
    assert answer.json()["result"]["isError"] is False
    assert root.tree() == ("POST /mcp", ["execute_tool calculate_math"])
    assert (root.trace_id, root.parent) == (PARENT[3:35], PARENT[36:52])


async def test_rejected_request_names_the_reason(engine: ScriptedEngine) -> None:
    engine.play(body({"error": {"message": "no", "type": "invalid_request_error", "code": None}}, 400))
    async with traced(engine) as one:
        await one.server.chat()
        await closed(one)
        root = one.root
    assert root.tree() == ("POST /v1/chat/completions", ["chat scripted"])
    assert (root.children[0].failed, root.children[0].error) == (True, "400")
    # The conventions: a server is not at fault for what its client sends.
    assert not root.failed
    assert root.attributes["http.response.status_code"] == 400
    assert root.attributes["error.type"] == "400"


async def test_broken_stream_fails(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("Hel"), CUT))
    async with traced(engine) as one:
        await one.server.chat_events()
        await closed(one)
        root = one.root
    assert root.failed
    assert found(root, "chat").failed
    assert root.attributes["error.type"] == "engine_failed"


async def test_each_attempt_is_a_span(engine: ScriptedEngine) -> None:
    engine.play(cut(), whole("ok"))
    async with traced(engine) as one:
        await one.server.chat()
        await closed(one)
        root = one.root
    first, second = root.children
    assert (first.failed, first.error) == (True, "connection_broken")
    assert not second.failed
    assert not root.failed


async def test_wait_for_an_engine_is_a_span(engine: ScriptedEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    async with collector() as sink:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "ENGINE_WAIT_SECONDS": "20"}
        async with live(f"http://127.0.0.1:{port}", **settings) as server:
            request = asyncio.create_task(server.chat())
            await until(lambda: server.app._fleets.first.discovery.starts.held > 0)
            late = ScriptedEngine()
            await late.start(port)
            late.play(whole("at last"))
            assert (await request).status_code == 200
            server.server.stop(drain=False)
            await until(lambda: sink.spans != [])
            await late.stop()
        [root] = roots(sink.spans)
    names = [child.name for child in root.children]
    assert names[-2:] == ["wait_for_engine", "chat scripted"]
    assert set(names[:-2]) <= {"chat"}  # the attempt that showed that there is none


async def test_client_that_leaves_is_not_a_failure_of_the_server(engine: ScriptedEngine) -> None:
    engine.play(after(asyncio.Event(), whole("never")))
    async with traced(engine) as one:
        with pytest.raises(httpx.ReadTimeout):
            await one.server.http.post(
                "/v1/chat/completions",
                json={"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]},
                timeout=0.3,
            )
        await engine.aborted.wait()
        await closed(one)
        root = one.root
    assert root.attributes["http.response.status_code"] == 499
    assert root.attributes["error.type"] == "cancelled"
    assert not root.failed
    assert (root.children[0].failed, root.children[0].error) == (True, "cancelled")


async def test_client_that_leaves_while_a_tool_runs(engine: ScriptedEngine) -> None:
    async with (
        scripted_mcp() as peer,
        traced(engine, MCP_SERVERS=json.dumps([{"name": "files", "url": peer.url}])) as one,
    ):
        begun = asyncio.Event()

        async def never(it: Any) -> None:
            begun.set()
            await it.left.wait()

        peer.on_call = never
        engine.play(
            whole(calls=[call("files__echo", {}, id="a"), call("files__echo", {"text": "b"}, id="b")])
        )
        spec = {"type": "function", "function": {"name": "files__echo"}}
        request = asyncio.create_task(one.server.chat(tools=[spec]))
        await begun.wait()
        request.cancel()
        await until(lambda: not one.server.app.in_flight._limited)
        await closed(one)
        root = one.root
    tools = [child for child in found(root, "invoke_agent").children if child.name.startswith("execute")]
    assert [(tool.failed, tool.error) for tool in tools] == [(True, "cancelled")] * 2


async def test_nothing_that_was_said_is_in_a_trace(engine: ScriptedEngine) -> None:
    engine.play(
        whole(SECRET, calls=[call("calculate_math", {"expression": "20+22"})]),
        stream(*text("4", "2", SECRET)),
    )
    async with traced(engine, BOOTSTRAP_API_KEY="sk-0123456789abcdef", VLLM_API_KEY="engine-key-1") as one:
        headers = {"Authorization": "Bearer sk-0123456789abcdef"}
        await one.server.chat(SECRET, tools=[MATH], headers=headers)
        await one.server.chat(SECRET, stream=True, headers=headers)
        await one.server.chat(SECRET, headers={"Authorization": "Bearer sk-wrong-key-of-a-stranger"})
        await closed(one)
        sent = one.collector.text
        count = len(roots(one.collector.spans))
    assert count == 3
    for secret in (SECRET, "20+22", "sk-0123", "engine-key", "sk-wrong"):
        assert secret not in sent
    assert "bootstrap" in sent  # the key's name


async def test_spans_of_one_request_are_bounded(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "SPANS_AT_MOST", 4)
    calls = [call("calculate_math", {"expression": f"1+{n}"}, id=f"c{n}") for n in range(9)]
    engine.play(whole(calls=calls), whole("done"))
    async with traced(engine) as one:
        await one.server.chat(tools=[MATH])
        counted = await one.server.metrics()
        await closed(one)
        spans = one.collector.spans
    assert len(spans) == 4
    assert 'trace_spans_total{outcome="too_many"} 9.0' in counted


async def test_busy_engine_does_not_fill_the_trace(engine: ScriptedEngine) -> None:
    busy = body({"error": {"message": "full", "code": 503}}, 503)
    engine.play(*[busy] * 40, stream(*text("at last")))
    async with traced(engine, ENGINE_STARTUP_SECONDS="60") as one:
        events = await one.server.chat_events()
        await closed(one)
        root = one.root
    assert "at last" in str(events)
    names = [child.name for child in root.children]
    assert names.count("wait_for_engine") == 1
    assert len(names) <= 12
    assert names[-1] == "chat scripted"


async def test_other_routes_have_their_operation(engine: ScriptedEngine) -> None:
    engine.play(
        body({"object": "list", "model": "scripted", "data": [], "usage": counts(3, 0)}),
        body(chunk(None)[6:], content_type="application/json"),
    )
    async with traced(engine) as one:
        await one.server.http.post("/v1/embeddings", json={"model": "m", "input": "x"})
        await closed(one)
        root = one.root
    assert root.tree() == ("POST /v1/embeddings", ["embeddings scripted"])
    assert root.children[0].attributes["gen_ai.request.model"] == "m"


async def test_health_checks_and_lists_are_not_traced(engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    async with traced(engine) as one:
        for path in ("/health", "/ready", "/metrics", "/v1/models", "/v1/tools", "/unknown"):
            await one.server.http.get(path)
        await one.server.chat()
        await closed(one)
        assert one.root.name == "POST /v1/chat/completions"
