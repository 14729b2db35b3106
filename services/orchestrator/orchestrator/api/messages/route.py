"""POST /v1/messages and /v1/messages/count_tokens: relays, or the tool loop projected to a message."""

from __future__ import annotations

from typing import Any

from ...chat.execution import misspellings
from ...chat.loop import ChatLoop
from ...chat.tool_plan import ToolPlan, plan_tools
from ...protocol import JsonObject, check_chat_request, dumps, exact
from ...tools.toolbox import Toolbox
from ..projected import answer, give_hints
from ..relay import Relay
from ..reply import Reply
from ..request import Request
from .content import OWN_SERVER, call_name
from .projection import MessageProjection
from .request import chat_request, custom_tools, names_server_tool, tool_name

_CALLED = b'"mcp_tool_'
"""In the body of a request whose history has calls that this server has run."""


class Messages:
    """Handles /v1/messages."""

    def __init__(self, loop: ChatLoop, relay: Relay, toolbox: Toolbox) -> None:
        self._loop = loop
        self._relay = relay
        self._toolbox = toolbox

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        header = request.headers.get(b"x-tool-execution")
        execution = header.decode("latin-1") if header else None
        called = _CALLED in request.body
        ours = names_server_tool(payload, self._toolbox) or bool(payload.get("mcp_servers"))
        named = execution != "client" and ours
        if named or called:
            plan = self._plan(exact(payload, request.body), execution)
            give_hints(plan.hints, request, reply)
            withheld = not plan.request.get("tools")
            if plan.runs_tools or withheld or called:
                projection = MessageProjection(str(plan.request.get("model") or "-"), self._origin)
                await answer(self._loop, plan, projection, request, reply, stream=plan.stream)
                return
        elif execution is None:
            give_hints(misspellings(custom_tools(payload), self._toolbox), request, reply)
        await self._relay.forward(request, reply, payload, request.body)

    def _origin(self, name: str) -> tuple[str, str]:
        tool = self._toolbox.remote(name)
        return (tool.server, tool.remote_name) if tool else (OWN_SERVER, name)

    def _plan(self, payload: JsonObject, execution: str | None) -> ToolPlan:
        chat = chat_request(payload)
        check_chat_request(chat)
        plan = plan_tools(chat, self._toolbox, execution=execution, attached=())
        plan.events = plan.shows_rounds = True
        plan.carries = False  # clients repeat all blocks
        return plan


class CountTokens:
    """Handles /v1/messages/count_tokens. The engine counts, and needs complete tools for that."""

    def __init__(self, relay: Relay, toolbox: Toolbox) -> None:
        self._relay = relay
        self._toolbox = toolbox

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        body = request.body
        if names_server_tool(payload, self._toolbox) or _CALLED in body:
            payload = exact(payload, body)
            payload["tools"] = [self._complete(tool) for tool in payload.get("tools") or ()]
            for message in payload.get("messages") or ():
                if isinstance(message, dict) and isinstance(message.get("content"), list):
                    message["content"] = [_as_client(block) for block in message["content"]]
            body = dumps(payload)
        await self._relay.forward(request, reply, payload, body)
        request.record.rejected()  # counting is not work of the model

    def _complete(self, tool: Any) -> Any:
        if tool_name(tool) not in self._toolbox:
            return tool
        function = {"name": tool["name"], "parameters": tool.get("input_schema")}
        known = self._toolbox.complete({"type": "function", "function": function})["function"]
        return {"description": known["description"], **tool, "input_schema": known["parameters"]}


def _as_client(block: Any) -> Any:
    """Returns a block of a call by the server in the form of a call by the client, which the engine knows."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "mcp_tool_use":
        return {**block, "type": "tool_use", "name": call_name(block)}
    return {**block, "type": "tool_result"} if kind == "mcp_tool_result" else block
