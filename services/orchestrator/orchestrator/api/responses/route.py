"""POST /v1/responses: a plain relay, or the tool loop projected to a response."""

from __future__ import annotations

from collections.abc import Sequence

from ...chat.carried import MARK
from ...chat.execution import misspellings
from ...chat.loop import ChatLoop
from ...chat.tool_plan import ToolPlan, plan_tools
from ...errors import InvalidRequest
from ...protocol import JsonObject, check_chat_request, exact
from ...tools.mcp.requested import RequestServers
from ...tools.toolbox import Toolbox
from ..brought import with_brought
from ..projected import answer, give_hints
from ..relay import Relay
from ..reply import Reply
from ..request import Request
from .archive import Archive, input_items
from .mcp import brought_servers
from .projection import ResponseProjection
from .request import ResponseRequest, functions, names_server_tool, parse

_KEPT = ("background", "previous_response_id", "store")
"""Fields that ask the server to keep something, which the engine would ignore or reject."""

_CALLED = (b'"mcp_', MARK.encode())
"""In the body of a request whose history has calls that this server has run."""


class Responses:
    """Handles the route."""

    def __init__(
        self,
        loop: ChatLoop,
        relay: Relay,
        toolbox: Toolbox,
        servers: RequestServers,
        archive: Archive,
        *,
        attached: Sequence[str],
    ) -> None:
        self._loop = loop
        self._relay = relay
        self._toolbox = toolbox
        self._servers = servers
        self._archive = archive
        self._attached = attached

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        header = request.headers.get(b"x-tool-execution")
        execution = header.decode("latin-1") if header else None
        called = any(mark in request.body for mark in _CALLED)
        if not (called or self._is_ours(payload, execution)):
            if execution is None:
                give_hints(misspellings(functions(payload), self._toolbox), request, reply)
            await self._relay.forward(request, reply, payload, request.body)
            return
        payload = exact(payload, request.body)
        await self._add_history(payload, request)
        entries = brought_servers(payload.get("tools"), self._toolbox)
        async with with_brought(self._toolbox, entries, self._servers, request) as toolbox:
            asked = parse(payload, toolbox, [str(entry.tool["server_label"]) for entry in entries])
            plan = self._plan(asked, toolbox, execution, request.record.permitted_tools)
            give_hints(plan.hints, request, reply)
            withheld = not plan.request.get("tools")
            kept = payload.get("store") or payload.get("previous_response_id")
            if plan.runs_tools or withheld or kept or called:
                await self._answer(payload, asked, plan, request, reply, loop=self._loop.over(toolbox))
            else:
                await self._relay.forward(request, reply, payload, request.body)

    async def _add_history(self, payload: JsonObject, request: Request) -> None:
        """Puts the items of the response before this one in front of the input, which then has ids."""
        before, stores = payload.get("previous_response_id"), payload.get("store") is True
        if not (before or stores):
            return
        self._check_open("previous_response_id" if before else "store")
        given = payload.get("input")
        if not isinstance(given, str | list) or (before and not isinstance(before, str)):
            return  # `parse` reports it
        payload["input"] = input_items(given)
        if before:
            stored = await self._archive.find(before, request.record.key_name, param="previous_response_id")
            request.share.resize(request.share.size + 4 * stored.size)
            payload["input"] = stored.history + payload["input"]
        if stores:
            self._archive.check_size(payload["input"])

    def _check_open(self, param: str) -> None:
        if not self._archive.is_open:
            raise InvalidRequest(
                f"{param} is not supported: this server stores no responses (RESPONSES_STORE). Send the "
                "earlier items in `input`, and leave `store` out, which means false here",
                param=param,
                code="unsupported_parameter",
            )

    async def _answer(
        self,
        payload: JsonObject,
        asked: ResponseRequest,
        plan: ToolPlan,
        request: Request,
        reply: Reply,
        *,
        loop: ChatLoop,
    ) -> None:
        projection = ResponseProjection(asked)
        stores = payload.get("store") is True
        items, owner = payload["input"], request.record.key_name

        async def keep() -> None:
            if not await self._archive.keep(projection.answer, items, owner):
                projection.answer["store"] = False

        before_end = keep if stores else None
        await answer(loop, plan, projection, request, reply, stream=asked.stream, before_end=before_end)

    def _is_ours(self, payload: JsonObject, execution: str | None) -> bool:
        if any(payload.get(name) for name in _KEPT):
            return True
        if execution == "client":
            return False
        return names_server_tool(payload, self._toolbox) or (
            bool(self._attached) and not payload.get("tools")
        )

    def _plan(
        self,
        asked: ResponseRequest,
        toolbox: Toolbox,
        execution: str | None,
        permitted: frozenset[str] | None,
    ) -> ToolPlan:
        check_chat_request(asked.chat)
        plan = plan_tools(
            asked.chat, toolbox, execution=execution, attached=self._attached, permitted=permitted
        )
        plan.events = plan.shows_rounds = True
        plan.max_calls = asked.max_tool_calls
        plan.client |= asked.mcp.approval  # their calls end the response, as those for the client do
        plan.approved = asked.approved
        # Only a stream has the token data of each text.
        plan.stream = plan.stream or bool(asked.chat.get("logprobs"))
        return plan
