"""Open WebUI's requests, and how it reads the answers.

`requests.json` was written from the sources of Open WebUI of the version that it names: the fields of each
request, their order and the headers. `from` names the function that builds it. Its prompts are shortened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

Json = dict[str, Any]

RECORDED: Json = json.loads(Path(__file__).with_name("requests.json").read_text())
NAMES = tuple(RECORDED["requests"])


@dataclass
class Shown:
    """What Open WebUI shows of a stream: `stream_body_handler` in its `utils/middleware.py`."""

    content: str = ""
    reasoning: str = ""
    calls: list[Json] = field(default_factory=list)
    usage: Json = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)
    finish: str | None = None

    def read(self, line: str) -> None:
        """Reads a line of the stream. Whatever is not an event must at least not be an error in JSON."""
        if not line.startswith("data:"):
            assert not line.startswith("{"), line
            return
        data = line[5:].strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        assert "event" not in event  # Open WebUI would take it for one of its own
        assert "selected_model_id" not in event
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices", [])
        if not choices:
            if error := event.get("error"):
                self.errors.append(error)
            return
        self.finish = choices[0].get("finish_reason") or self.finish
        delta = choices[0].get("delta", {})
        self.content += delta.get("content") or ""
        self.reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
        for piece in delta.get("tool_calls") or []:
            self._join(piece)

    def _join(self, piece: Json) -> None:
        found = next((call for call in self.calls if call["index"] == piece["index"]), None)
        if found is None:
            self.calls.append({"index": piece["index"], "id": piece["id"], "name": "", "arguments": ""})
            found = self.calls[-1]
        found["name"] = piece["function"].get("name") or found["name"]
        found["arguments"] += piece["function"].get("arguments") or ""


class OpenWebUI:
    """Sends the recorded requests, as Open WebUI does with these settings.

    Args:
        url: its OPENAI_API_BASE_URL, without `/v1`.
        key: its OPENAI_API_KEY; without one, it sends no `Authorization`.
        forwards: whether ENABLE_FORWARD_USER_INFO_HEADERS is set.
    """

    def __init__(self, url: str, *, key: str = "", forwards: bool = False) -> None:
        headers = {name: value.format(key=key) for name, value in RECORDED["headers"].items()}
        if not key:
            del headers["Authorization"]
        if forwards:
            headers |= RECORDED["headers_about_the_user"]
        self._http = httpx.AsyncClient(base_url=f"{url}/v1", headers=headers, timeout=20)

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, name: str) -> httpx.Response:
        """Sends a request, and returns the whole answer."""
        request = RECORDED["requests"][name]
        return await self._http.request(request["method"], request["path"], json=request["body"])

    async def read(self, name: str, *, until: str | None = None) -> Shown:
        """Sends a request for a stream, and reads it to its end, or until this text has arrived."""
        request = RECORDED["requests"][name]
        shown = Shown()
        async with self._http.stream(request["method"], request["path"], json=request["body"]) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert "text/event-stream" in answer.headers["content-type"]
            async for line in answer.aiter_lines():
                shown.read(line)
                if until is not None and until in shown.content:
                    break
        return shown


def sent(name: str) -> Json:
    """Returns the body of a recorded request."""
    found: Json = RECORDED["requests"][name]["body"]
    return found
