"""Our own tools, for the official client of the Model Context Protocol and for hand-written requests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.live import Live, live
from tests.support.scripted_mcp import scripted_mcp

KEY = "sk-mcp-0123456789abcdef"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
async def service() -> AsyncIterator[Live]:
    async with live("http://127.0.0.1:9", API_KEYS=f"me:{HASH}") as one:
        one.http.headers["authorization"] = f"Bearer {KEY}"
        yield one


async def post(service: Live, message: Any, **headers: str) -> httpx.Response:
    accept = {"accept": "application/json, text/event-stream", **headers}
    return await service.http.post("/mcp", json=message, headers=accept)


async def modern(service: Live, method: str, /, meta: Any = META, **params: Any) -> httpx.Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    if "name" in params:
        headers["mcp-name"] = params["name"]
    return await post(service, message, **headers)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_official_client_lists_and_calls_tools(service: Live, mode: Any) -> None:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as http,
        Client(streamable_http_client(f"{service.url}/mcp", http_client=http), mode=mode) as client,
    ):
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"get_current_weather", "calculate_math", "query_database"}
        result = await client.call_tool("calculate_math", {"expression": "123 * 456"})
        assert result.structured_content == {"result": 56088}
        assert not result.is_error
        failed = await client.call_tool("calculate_math", {"expression": "1 +"})
        assert failed.is_error


async def test_newest_version(service: Live) -> None:
    found = (await modern(service, "server/discover")).json()["result"]
    assert found["supportedVersions"][0] == "2026-07-28"
    assert found["resultType"] == "complete"
    called = await modern(service, "tools/call", name="calculate_math", arguments={"expression": "2+2"})
    assert called.json()["result"]["structuredContent"] == {"result": 4}


@pytest.mark.parametrize(
    ("method", "meta", "headers", "code", "status"),
    [
        ("tools/list", {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, {}, -32602, 400),
        ("tools/list", META, {"mcp-method": "tools/call"}, -32020, 400),
        ("tools/list", META, {"mcp-protocol-version": "2025-11-25"}, -32020, 400),
        ("nothing/here", META, {}, -32601, 404),
        ("tools/list", {**META, "io.modelcontextprotocol/protocolVersion": "2031-01-01"},
         {"mcp-protocol-version": "2031-01-01"}, -32022, 400),
    ],
)  # fmt: skip
async def test_error_of_the_newest_version(
    service: Live, method: str, meta: Any, headers: dict[str, str], code: int, status: int
) -> None:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"_meta": meta}}
    sent = {"mcp-protocol-version": "2026-07-28", "mcp-method": method, **headers}
    answer = await post(service, message, **sent)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (status, code, 7)


async def test_requests_of_the_inspector(service: Live) -> None:
    """The inspector's first requests, as its version 0.20 sends them."""
    begin = {
        "method": "initialize", "jsonrpc": "2.0", "id": 0,
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"sampling": {}, "elicitation": {}, "roots": {"listChanged": True}},
            "clientInfo": {"name": "inspector-client", "version": "0.20.0"},
        },
    }  # fmt: skip
    answer = await post(service, begin)
    assert answer.json()["result"]["protocolVersion"] == "2025-11-25"
    assert "mcp-session-id" not in answer.headers
    done = await post(service, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (done.status_code, done.content) == (202, b"")
    listed = await post(
        service,
        {"method": "tools/list", "params": {"_meta": {"progressToken": 1}}, "jsonrpc": "2.0", "id": 1},
        **{"mcp-protocol-version": "2025-11-25"},
    )
    assert len(listed.json()["result"]["tools"]) == 3
    ping = await post(service, {"method": "ping", "jsonrpc": "2.0", "id": "p"})
    assert ping.json() == {"jsonrpc": "2.0", "id": "p", "result": {}}
    stream = await service.http.get("/mcp", headers={"accept": "text/event-stream"})
    assert (stream.status_code, stream.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
        (b'{"id": 1, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": [], "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "calculate_math",'
         b' "arguments": []}}', -32602),
    ],
)  # fmt: skip
async def test_malformed_requests(service: Live, body: bytes, code: int) -> None:
    answer = await service.http.post("/mcp", content=body)
    assert answer.json()["error"]["code"] == code


async def test_key_is_needed_and_errors_are_json_rpc(service: Live) -> None:
    answer = await service.http.post("/mcp", content=b"{}", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401
    error = answer.json()
    assert (error["jsonrpc"], error["id"], error["error"]["code"]) == ("2.0", None, -32600)
    assert error["error"]["data"]["code"] == "invalid_api_key"


async def test_pages_of_other_origins_are_rejected(service: Live) -> None:
    ping = {"method": "ping", "jsonrpc": "2.0", "id": 1}
    assert (await post(service, ping, origin="https://evil.example")).status_code == 403
    assert (await post(service, ping, origin=service.url)).status_code == 200


@pytest.mark.parametrize(("serve", "served"), [("all", True), ("own", False)])
async def test_tools_of_other_servers_are_served_if_the_operator_wants(serve: str, served: bool) -> None:
    async with scripted_mcp() as peer:
        servers = json.dumps([{"name": "far", "url": peer.url}])
        async with live("http://127.0.0.1:9", MCP_SERVERS=servers, MCP_SERVE=serve) as service:
            tools = (await modern(service, "tools/list")).json()["result"]["tools"]
            assert any(tool["name"] == "far__echo" for tool in tools) is served
            answer = await modern(service, "tools/call", name="far__echo", arguments={"text": "hi"})
            if served:
                assert answer.json()["result"]["content"] == [{"type": "text", "text": "hi"}]
            else:
                assert answer.json()["error"]["code"] == -32602


async def test_route_can_be_turned_off() -> None:
    async with live("http://127.0.0.1:9", MCP_SERVE="none") as service:
        assert (await modern(service, "tools/list")).status_code == 404


async def test_key_with_a_list_of_tools_sees_only_these(tmp_path: Any) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"me": {"sha256": HASH, "tools": ["calculate_math"]}}))
    async with live("http://127.0.0.1:9", API_KEYS_FILE=str(file)) as service:
        service.http.headers["authorization"] = f"Bearer {KEY}"
        tools = (await modern(service, "tools/list")).json()["result"]["tools"]
        assert [tool["name"] for tool in tools] == ["calculate_math"]
        denied = await modern(service, "tools/call", name="query_database", arguments={})
        assert denied.json()["error"]["code"] == -32602
