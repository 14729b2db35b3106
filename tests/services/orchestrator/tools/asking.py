"""Helper functions for tests that call tools."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import ToolError
from orchestrator.tools.context import ToolContext
from orchestrator.tools.database import Database
from orchestrator.tools.toolbox import Toolbox, ToolResult

Make = Callable[..., Toolbox]


def ask(database: Database, table: str, context: ToolContext | None = None, **arguments: Any) -> Any:
    return database.query_database(context or ToolContext("r1"), table=table, **arguments)


def refusal(database: Database, table: str, **arguments: Any) -> str:
    with pytest.raises(ToolError) as error:
        ask(database, table, **arguments)
    return str(error.value)


async def call(toolbox: Toolbox, name: str, request_id: str = "r1", **arguments: Any) -> ToolResult:
    return await toolbox.call(name, json.dumps(arguments), request_id=request_id)


def error_of(result: ToolResult) -> str:
    content = json.loads(result.content)
    assert list(content) == ["error"]
    text: str = content["error"]
    return text


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def echo(text: str, times: int = 1) -> str:
    """Repeat a text.

    Args:
        text: The text.
        times: How often to repeat it.
    """
    return text * times


def thread_name() -> str:
    """Return the name of the thread."""
    return threading.current_thread().name
