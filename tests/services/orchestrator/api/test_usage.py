"""GET /v1/usage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, stream, text, whole


def key_file(directory: Path) -> str:
    def entry(key: str, **limits: Any) -> dict[str, Any]:
        return {"sha256": hashlib.sha256(key.encode()).hexdigest(), **limits}

    file = directory / "keys.json"
    file.write_text(
        json.dumps(
            {
                "alice": entry("one", tokens_per_day=1000, models=["scripted"], expires="2999-01-01"),
                "bob": entry("two"),
                "carol": entry("three", admin=True),
            }
        )
    )
    return str(file)


async def usage(server: Live, key: str, query: str = "") -> Any:
    answer = await server.http.get(f"/v1/usage{query}", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_key_sees_its_own_usage_and_an_admin_all(engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.play(whole("a"), stream(*text("b"), usage=(20, 3)), whole("c"))
    async with live(engine.url, API_KEYS_FILE=key_file(tmp_path)) as server:
        for key in ("one", "one", "two"):
            await server.chat(stream=key == "one", headers={"authorization": f"Bearer {key}"})
        alice, carol = await usage(server, "one"), await usage(server, "three", "?days=1")
        assert (await server.http.get("/v1/usage")).status_code == 401
    tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in alice["data"])
    assert alice["limits"] == {
        "requests_per_minute": None, "tokens_per_day": 1000, "max_in_flight": None, "models": ["scripted"],
        "tools": None, "expires": "2999-01-01T00:00:00+00:00", "remaining_requests": None,
        "remaining_tokens": 1000 - tokens,
    }  # fmt: skip
    [row] = alice["data"]
    assert (row["key"], row["model"], row["requests"], row["estimated"]) == ("alice", "scripted", 2, 0)
    assert alice["scope"].startswith("this server since ")
    assert [(row["key"], row["requests"]) for row in carol["data"]] == [("alice", 2), ("bob", 1)]
    assert (alice["admin"], carol["admin"]) == (False, True)


@pytest.mark.parametrize("days", ["0", "401", "-1", "x", "1.5", "%D9%A3", ""])
async def test_invalid_number_of_days(engine: ScriptedEngine, days: str) -> None:
    async with live(engine.url) as server:
        answer = await server.http.get(f"/v1/usage?days={days}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "days"
    assert "from 1 to 400" in answer.json()["error"]["message"]
