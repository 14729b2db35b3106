"""How client and server find a version that both know."""

from __future__ import annotations

import pytest

from orchestrator.tools.mcp.http import HttpTransport
from tests.services.orchestrator.tools.asking import call
from tests.services.orchestrator.tools.mcp.watched import watched
from tests.support.scripted_mcp import Call, ScriptedMcp


async def test_newest_version_needs_no_handshake(modern: ScriptedMcp) -> None:
    async with watched(modern) as one:
        await call(one.toolbox, "files__echo", text="x")
        assert [name for name in modern.messages if name != "subscriptions/listen"] == [
            "server/discover", "tools/list", "tools/call",
        ]  # fmt: skip
        assert not any("mcp-session-id" in request.headers for request in modern.requests)


async def test_older_versions_start_with_a_handshake(legacy: ScriptedMcp) -> None:
    async with watched(legacy):
        assert legacy.messages == [
            "server/discover", "initialize", "notifications/initialized", "tools/list",
        ]  # fmt: skip
        asked = legacy.of("initialize")[0]
        assert asked.json["params"]["protocolVersion"] == "2025-11-25"
        assert "mcp-protocol-version" not in asked.headers
        assert legacy.of("tools/list")[0].headers["mcp-protocol-version"] == "2025-06-18"
    assert legacy.requests[-1].method == "DELETE"


@pytest.mark.parametrize("status", [400, 404, 405, 406, 500])
async def test_server_that_does_not_know_the_newest_version_may_say_so_in_any_way(
    legacy: ScriptedMcp, status: int
) -> None:
    async def refuse(one: Call) -> None:
        await one.answer(status, b"what?", kind="text/plain")

    legacy.on["server/discover"] = refuse
    async with watched(legacy) as one:
        assert one.server.state.version == "2025-06-18"


async def test_server_that_ignores_the_newest_version_is_asked_for_an_older_one(
    legacy: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpTransport, "first_seconds", 0.1)

    async def ignore(one: Call) -> None:
        await one.left.wait()

    legacy.on["server/discover"] = ignore
    async with watched(legacy) as one:
        assert one.server.state.up


async def test_server_that_only_lists_older_versions_gets_a_handshake(legacy: ScriptedMcp) -> None:
    async def discover(one: Call) -> None:
        await one.result({"supportedVersions": ["2025-11-25"], "capabilities": {}})

    legacy.on["server/discover"] = discover
    async with watched(legacy) as one:
        assert one.server.state.version == "2025-06-18"


async def test_unknown_version_is_an_error(legacy: ScriptedMcp) -> None:
    async def begin(one: Call) -> None:
        await one.result({"protocolVersion": "2031-01-01", "capabilities": {}})

    legacy.on["initialize"] = begin
    async with watched(legacy) as one:
        assert one.server.state.reason.startswith("the server speaks version '2031-01-01' of MCP; known are")


async def test_server_without_a_stream_of_changes_is_not_asked_again(legacy: ScriptedMcp) -> None:
    async def begin(one: Call) -> None:
        legacy.sessions.add("s")
        answer = {"protocolVersion": "2025-03-26", "capabilities": {"tools": {}}}
        await one.result(answer, "Mcp-Session-Id: s")

    legacy.on["initialize"] = begin
    async with watched(legacy) as one:
        await call(one.toolbox, "files__echo", text="x")
        assert all(request.method == "POST" for request in legacy.requests)
