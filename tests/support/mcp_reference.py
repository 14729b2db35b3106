"""A server made with the official SDK of the Model Context Protocol: `python -m tests.support.mcp_reference`.

Without arguments it speaks over its standard streams, with `http` over HTTP on a free port of 127.0.0.1.
"""

from __future__ import annotations

import base64
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import anyio
import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

server = MCPServer("reference")


class Sum(BaseModel):
    """A sum and its parts."""

    total: int
    parts: list[int]


@server.tool()
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(total=a + b, parts=[a, b])


@server.tool()
def shout(text: str) -> str:
    """Return a text in capital letters."""
    return text.upper()


@server.tool()
def picture() -> Image:
    """Return a picture."""
    return Image(data=PIXEL, format="png")


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ToolError(reason)


@server.tool()
async def headers(context: Context) -> dict[str, str]:
    """Return the headers of the request."""
    return dict(context.headers or {})


@server.tool()
async def slow(steps: int, seconds: float, context: Context) -> str:
    """Take some steps, and report each."""
    for step in range(steps):
        await anyio.sleep(seconds)
        await context.report_progress(step + 1, steps)
    return "done"


@server.tool()
async def wait(started: str, cancelled: str) -> str:
    """Wait for ever; write a file at the start, and one when cancelled."""
    Path(started).touch()
    try:
        await anyio.sleep_forever()
    finally:
        Path(cancelled).touch()
    return "never"


@server.tool()
def route(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> str:
    """Return a region, which is in a header as well."""
    return region


@server.tool()
async def rename(context: Context) -> str:
    """Rename the tool shout to whisper."""

    def whisper(text: str) -> str:
        """Return a text in small letters."""
        return text.lower()

    server.remove_tool("shout")
    server.add_tool(whisper)
    await context.notify_tools_changed()
    return "renamed"


def serve_http() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
    sys.stdout.write(f"serving on port {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again at its end
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        serve_http()
    else:
        server.run("stdio")
