"""POST /v1/responses: a plain relay, or the tool loop projected to a response."""

from __future__ import annotations

from collections.abc import Sequence

from ...chat.loop import ChatLoop
from ...chat.tool_plan import ToolPlan, plan_tools
from ...protocol import JsonObject, check_chat_request, exact
from ...tools.toolbox import Toolbox
from ..endpoint import Request
from ..projected import answer
from ..relay import Relay
from ..reply import Reply
from .projection import ResponseProjection
from .request import ResponseRequest, names_server_tool, parse

_KEPT = ("background", "previous_response_id", "store")
"""Fields that ask the server to keep something, which the engine would ignore or reject."""

_CALLED = b'"mcp_'
"""In the body of a request whose history has calls that this server has run."""


class Responses:
    """Handles the route."""

    def __init__(self, loop: ChatLoop, relay: Relay, toolbox: Toolbox, *, attached: Sequence[str]) -> None:
        self._loop = loop
        self._relay = relay
        self._toolbox = toolbox
        self._attached = attached

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        header = request.headers.get(b"x-tool-execution")
        execution = header.decode("latin-1") if header else None
        if self._is_ours(payload, execution) or _CALLED in request.body:
            asked = parse(exact(payload, request.body), self._toolbox)
            plan = self._plan(asked, execution, request.record.permitted_tools)
            withheld = not plan.request.get("tools")
            if plan.runs_tools or withheld or _CALLED in request.body:
                projection = ResponseProjection(asked)
                await answer(self._loop, plan, projection, request, reply, stream=asked.stream)
                return
        await self._relay.forward(request, reply, payload, request.body)

    def _is_ours(self, payload: JsonObject, execution: str | None) -> bool:
        if any(payload.get(name) for name in _KEPT):
            return True
        if execution == "client":
            return False
        return names_server_tool(payload, self._toolbox) or (
            bool(self._attached) and not payload.get("tools")
        )

    def _plan(
        self, asked: ResponseRequest, execution: str | None, permitted: frozenset[str] | None
    ) -> ToolPlan:
        check_chat_request(asked.chat)
        plan = plan_tools(
            asked.chat, self._toolbox, execution=execution, attached=self._attached, permitted=permitted
        )
        plan.events = plan.shows_rounds = True
        plan.max_calls = asked.max_tool_calls
        plan.client |= asked.mcp.approval  # their calls end the response, as those for the client do
        plan.approved = asked.approved
        # Only a stream has the token data of each text.
        plan.stream = plan.stream or bool(asked.chat.get("logprobs"))
        return plan
