"""What browsers ask before a page may send a request."""

from __future__ import annotations

import pytest

from tests.support.live import Live

from .browser import ASKED, CHAT, PAGE, PREFLIGHT


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/x", "/chat/completions", "/v1/responses/"])
async def test_preflight_needs_no_key(open_server: Live, path: str) -> None:
    asked = await open_server.http.options(path, headers={"origin": PAGE, **PREFLIGHT})
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == ASKED
    assert int(asked.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in asked.headers


@pytest.mark.parametrize("names", ["a b", "x\u00e9", "a:b", ""])
async def test_only_names_are_repeated_in_a_preflight(open_server: Live, names: str) -> None:
    headers = {b"origin": PAGE.encode(), b"access-control-request-method": b"POST"}
    headers[b"access-control-request-headers"] = names.encode("latin-1")
    asked = await open_server.http.options(CHAT, headers=headers)
    assert asked.status_code == 204
    assert "access-control-allow-headers" not in asked.headers


async def test_options_without_a_preflight_is_not_allowed(open_server: Live) -> None:
    assert (await open_server.http.options(CHAT)).status_code == 405
    unknown = await open_server.http.options("/nowhere", headers={"origin": PAGE, **PREFLIGHT})
    assert unknown.status_code == 404
