"""Servers that a request brings: which are allowed, and which addresses are connected to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from orchestrator.errors import ApiError, InvalidRequest
from orchestrator.memory import Budget
from orchestrator.telemetry import Telemetry
from orchestrator.tools.mcp.requested import RequestServers, ServerUnavailable, is_public
from orchestrator.tools.toolbox import Toolbox
from tests.services.orchestrator.tools.asking import call
from tests.support.scripted_mcp import ScriptedMcp


def allowing(*allowed: str, telemetry: Telemetry | None = None) -> RequestServers:
    return RequestServers(
        allowed,
        seconds=5,
        takes_images=False,
        budget=Budget(10_000_000),
        telemetry=telemetry or Telemetry(),
    )


async def error_of(servers: RequestServers, **tool: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async with servers.open({"type": "mcp", "server_label": "x", **tool}, "tools[0]"):
            pass
    return caught.value


async def test_tools_of_the_server_are_called(peer: ScriptedMcp) -> None:
    telemetry = Telemetry()
    peer.needs = ("authorization", "Bearer t-1")
    servers = allowing(f"http://127.0.0.1:{peer.port}", telemetry=telemetry)
    tool = {
        "server_label": "docs",
        "server_url": peer.url,
        "authorization": "t-1",
        "headers": {"X-Team": "a"},
    }
    async with servers.open(tool, "tools[0]") as server:
        toolbox = Toolbox([]).extended(server.tools)
        assert (await call(toolbox, "docs__echo", text="hi")).content == "hi"
    assert peer.requests[0].headers["x-team"] == "a"
    counted = telemetry.exposition().decode()
    assert 'mcp_calls_total{outcome="ok",server="(of a request)"} 1.0' in counted


async def test_servers_of_requests_are_off_by_default() -> None:
    error = await error_of(allowing(), server_url="https://mcp.example.com/mcp")
    assert isinstance(error, InvalidRequest)
    assert (error.code, error.param) == ("mcp_server_not_allowed", "tools[0].server_url")
    assert "MCP_REQUEST_SERVERS" in error.message


@pytest.mark.parametrize(
    "url",
    [
        "http://good.example/mcp", "https://good.example:8443/mcp", "https://evil.example/mcp",
        "https://good.example.evil.example/mcp", "https://good.example/other", "https://good.example/mcpx",
        "https://good.example/mcp/../admin", "https://good.example/mcp/%2e%2e/admin",
        "https://good.example/mcp\\..\\admin", "https://example/mcp", "https://xgood.example/mcp",
        "https://sub.example/mcp",
    ],
)  # fmt: skip
async def test_other_servers_are_rejected(url: str) -> None:
    servers = allowing("https://good.example/mcp", "https://*.sub.example/mcp")
    assert (await error_of(servers, server_url=url)).code == "mcp_server_not_allowed"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.170.2", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254",
        "::ffff:169.254.170.2", "64:ff9b::a9fe:aa02", "2002:a9fe:aa02::1", "ff02::1",
    ],
)  # fmt: skip
async def test_names_that_lead_to_an_address_inside_are_rejected(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_public(address)

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))
        return [public, (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    error = await error_of(allowing("https://*.example.com"), server_url="https://a.example.com/mcp")
    assert error.code == "mcp_server_not_allowed"
    assert "not public" in error.message


def test_public_addresses() -> None:
    assert is_public("93.184.215.14")
    assert is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


async def test_the_checked_address_is_the_one_that_is_connected_to(
    modern: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", modern.port))]

    monkeypatch.setattr("orchestrator.tools.mcp.requested.is_public", lambda _: True)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    url = f"http://mcp.test:{modern.port}/mcp"
    async with allowing(url).open({"server_label": "x", "server_url": url}, "tools[0]") as server:
        assert len(server.tools) == 1
    assert asked.count("mcp.test") == 1
    assert modern.requests[0].headers["host"] == f"mcp.test:{modern.port}"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"server_label": "a b"}, "server_label"),
        ({"server_label": "a__b"}, "server_label"),
        ({"server_label": "x" * 33}, "server_label"),
        ({"server_label": 5}, "server_label"),
        ({"server_url": 5}, "server_url"),
        ({"server_url": "file:///etc/passwd"}, "server_url"),
        ({"server_url": "http://me:pw@127.0.0.1/"}, "server_url"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"X": "a\r\nb"}}, "headers"),
        ({"headers": ["x"]}, "headers"),
        ({"headers": {f"X-{n}": "x" for n in range(40)}}, "headers"),
        ({"authorization": 5}, "authorization"),
    ],
)
async def test_error_names_the_field(tool: dict[str, Any], param: str) -> None:
    servers = allowing("http://127.0.0.1")
    error = await error_of(servers, **{"server_url": "http://127.0.0.1/", **tool})
    assert error.status == 400
    assert error.param == f"tools[0].{param}"


async def test_server_that_does_not_answer(modern: ScriptedMcp) -> None:
    modern.tools = "none"
    error = await error_of(allowing(f"http://127.0.0.1:{modern.port}"), server_url=modern.url)
    assert isinstance(error, ServerUnavailable)
    assert error.status == 424
    assert error.message == "The MCP server x cannot be used: the server's list of tools is not a list"
