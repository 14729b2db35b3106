from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SettingsError
from orchestrator.mcp_settings import allowed_url
from orchestrator.settings import Settings


def read(*servers: Any, **environment: str) -> Settings:
    return Settings.from_environment({"MCP_SERVERS": json.dumps(servers), **environment})


def test_servers_are_read_with_their_secrets() -> None:
    [docs, files] = read(
        {"name": "docs", "url": "https://a.example/mcp", "headers": {"Authorization": "Bearer ${T}"},
         "tools": ["x"], "timeout_seconds": 30},
        {"name": "files", "command": ["npx", "files"], "environment": {"ROOT": "/data/$(T)"}},
        T="secret-1", PATH="/bin",
    ).mcp_servers  # fmt: skip
    assert docs.plain_headers == {"Authorization": "Bearer secret-1"}
    assert (docs.tools, docs.timeout_seconds) == (("x",), 30)
    assert files.plain_environment == {"PATH": "/bin", "ROOT": "/data/secret-1"}
    assert "secret-1" not in repr(docs)


def test_servers_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text('[{"name": "docs", "url": "https://a.example/mcp"}]')
    assert Settings.from_environment({"MCP_SERVERS": str(file)}).mcp_servers[0].name == "docs"


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({"name": "a b", "url": "https://a.example"}, "server 'a b': name: "),
        ({"name": "a__b", "url": "https://a.example"}, "name: String should match pattern"),
        ({"url": "https://a.example"}, "server 0: name: Field required"),
        ({"name": "a"}, "needs either url or command"),
        ({"name": "a", "url": "https://a.example", "command": ["x"]}, "needs either url or command"),
        ({"name": "a", "url": "ftp://a.example"}, "url: must be a URL such as"),
        ({"name": "a", "url": "https://me:pw@a.example"}, "must not contain a user or password"),
        ({"name": "a", "url": "https://a.example/x y"}, "only ASCII characters and no spaces"),
        ({"name": "a", "command": ["x"], "headers": {"X": "secret-2"}}, "headers go with url"),
        (
            {"name": "a", "url": "https://a.example", "headers": {"X": "${NONE}"}},
            "variable NONE, which is not",
        ),
        ({"name": "a", "url": "https://a.example", "headers": {"Host": "secret-2"}}, "header Host is set by"),
        ({"name": "a", "url": "https://a.example", "headers": {"X": "secret-2\r\n"}}, "printable ASCII"),
        ({"name": "a", "url": "https://a.example", "tool": []}, "tool: Extra inputs are not permitted"),
        ({"name": "a", "url": "https://a.example", "timeout_seconds": 0}, "timeout_seconds: "),
        ("x", "server 0: "),
    ],
)
def test_problem_names_the_server_and_hides_values(server: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(server)
    assert caught.value.name == "MCP_SERVERS"
    assert problem in str(caught.value)
    assert "secret-2" not in str(caught.value)


@pytest.mark.parametrize("value", ["/nowhere.json", "{}", "[1", "[" + ",".join(["{}"] * 65) + "]"])
def test_value_that_is_not_a_list_is_rejected(value: str) -> None:
    with pytest.raises(SettingsError, match="must be"):
        Settings.from_environment({"MCP_SERVERS": value})


def test_name_is_used_once() -> None:
    one = {"name": "a", "url": "https://a.example"}
    with pytest.raises(SettingsError, match="server 'a': the name is used twice"):
        read(one, one)


def test_allowed_urls() -> None:
    assert allowed_url("https://*.example.com/mcp") == ("https", "*.example.com", 443, "/mcp")
    for wrong in ("example.com", "https://a.*.example.com", "https://a.example?x=1", "https://*"):
        with pytest.raises(SettingsError, match="MCP_REQUEST_SERVERS"):
            Settings.from_environment({"MCP_REQUEST_SERVERS": wrong})
