"""The tool loop: ask the engine, pass on what the client may see, run tools, ask again.

It produces a stream of events, from which a non-streaming answer is folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import orjson

from ..control_tokens import ControlTokens
from ..engine.answer import exceeds_context
from ..engine.client import Engines
from ..errors import EngineBroke, EngineFailed, EngineRejected, NotPermitted
from ..protocol import JsonObject, ToolCall, add_usage
from ..telemetry import Record, Telemetry, log
from ..tools.toolbox import Arguments, Toolbox, ToolResult
from .conversation import SAME_CALL_LIMIT, CallKey, Conversation, Event, ToolEvent
from .markup import Rescue
from .tool_plan import ToolPlan
from .turn import Finish, HandBack, RunTools, Turn

PATH = "/v1/chat/completions"

Emit = Callable[[list[Event]], Awaitable[None]]
"""Takes the next events of an answer and returns when the client can take more."""

_ROUND_RETRIES = 2
_REQUEST_ERRORS = (400, 413, 422)
_MAX_CALLS = 128
"""In one turn. Further calls are left out of the history: the model can make them in its next turn."""


class ChatLoop:
    """Answers requests for which the server runs tools."""

    def __init__(
        self,
        engines: Engines,
        toolbox: Toolbox,
        telemetry: Telemetry,
        *,
        max_rounds: int,
        rescue: Rescue,
        control_tokens: ControlTokens,
    ) -> None:
        self._engines = engines
        self._toolbox = toolbox
        self._telemetry = telemetry
        self._max_rounds = max_rounds
        self._rescue = rescue
        self._control_tokens = control_tokens

    def over(self, toolbox: Toolbox) -> ChatLoop:
        """Returns a loop with other tools, for one request."""
        if toolbox is self._toolbox:
            return self
        return ChatLoop(
            self._engines,
            toolbox,
            self._telemetry,
            max_rounds=self._max_rounds,
            rescue=self._rescue,
            control_tokens=self._control_tokens,
        )

    async def run(self, plan: ToolPlan, record: Record, emit: Emit) -> None:
        """Emits the answer in batches of events. The last event is the `Ending`.

        Raises:
            ApiError: the engine rejected the request, failed or did not come up, or the key may not use a
                tool.
        """
        _check_tools(plan.server, record.permitted_tools)
        talk = Conversation(plan, self._rescue, self._control_tokens)
        if approved := plan.approved[: talk.calls_left(_MAX_CALLS)]:
            await self._run_tools(talk, Turn("", "", approved, [], "tool_calls"), approved, record, emit)
        while True:
            talk.rounds = record.rounds = talk.rounds + 1
            turn = await self._ask_within_context(talk, record, emit)
            if turn is None:
                return
            match turn.next_step():
                case RunTools(calls):
                    await self._run_tools(talk, turn, calls[: talk.calls_left(_MAX_CALLS)], record, emit)
                    talk.last_ask = self._why_last_ask(talk)
                case HandBack(calls):
                    if ours := calls[: talk.calls_left(_MAX_CALLS)]:
                        await self._run_tools(talk, turn, ours, record, emit)
                    await emit([*talk.hand_back(turn, len(ours)), talk.ending("tool_calls")])
                    return
                case Finish(reason) if talk.drafts and reason in ("stop", "length") and not turn.has_calls:
                    talk.last_ask = "The model was asked for an answer in the requested format"
                case Finish(reason):
                    if not turn.text.strip() and (note := _why_no_answer(talk, turn)):
                        await emit([talk.tail({"content": note})])
                    await emit([*talk.hand_back(turn), talk.ending(reason)])
                    return

    async def _ask_within_context(self, talk: Conversation, record: Record, emit: Emit) -> Turn | None:
        """Runs one round, or ends the answer and returns None if the history exceeds the context."""
        try:
            return await self._ask(talk, record, emit)
        except EngineRejected as error:
            # The client wrote the first request, but not what the tools added to it.
            if talk.rounds == 1 or error.status not in _REQUEST_ERRORS:
                raise
            if not exceeds_context(error):
                raise EngineFailed(
                    f"The engine rejected the request with the results of the tools: {error.message}"
                ) from error
            note = f"(The tool results do not fit into the model's context: {error.message})"
        await emit([talk.tail({"content": note}), talk.ending("length")])
        return None

    async def _ask(self, talk: Conversation, record: Record, emit: Emit) -> Turn:
        """Runs one round, and retries it as long as the client has seen none of it."""
        body = talk.body()
        prefix = self._engines.prefix_of(talk.plan.request)
        for attempt in range(_ROUND_RETRIES + 1):
            talk.begin_turn()
            try:
                with await self._engines.ask(
                    PATH, body, record, whole=not talk.plan.stream, prefer=talk.engine, prefix=prefix
                ) as answer:
                    talk.engine = answer.address
                    record.saw_first_token()
                    while chunks := await answer.chunks():
                        record.events += len(chunks)
                        record.model = answer.model
                        events = talk.visible(chunks)
                        if events:
                            await emit(events)
                break
            except EngineBroke:
                if talk.shown_this_turn or attempt == _ROUND_RETRIES:
                    raise
                self._engines.retried()
        rest, turn = talk.end_turn()
        if rest:
            await emit([rest])
        talk.usage = add_usage(talk.usage, answer.usage)
        record.count_tokens(answer.usage)
        if record.traced:
            calls = [(call.id, call.name, call.arguments) for call in (*turn.calls, *turn.client_calls)]
            record.saw_turn(turn.text, calls, turn.finish_reason)
        record.answered()
        return turn

    async def _run_tools(
        self, talk: Conversation, turn: Turn, calls: list[ToolCall], record: Record, emit: Emit
    ) -> None:
        """Runs the calls concurrently, equal ones only once, and adds the turn and results to the history."""
        parsed = [Arguments.of(call.arguments) for call in calls]
        keys = [(call.name, its.canonical) for call, its in zip(calls, parsed, strict=True)]
        if talk.plan.events:
            await emit([ToolEvent({"type": "tool_call.started", **_describe(call)}) for call in calls])
        results: dict[CallKey, ToolResult] = {}

        async def run(key: CallKey, call: ToolCall, arguments: Arguments) -> None:
            results[key] = result = await self._call(call, arguments, talk.plan, record)
            if talk.plan.events:
                same = [call for call, its in zip(calls, keys, strict=True) if its == key]
                await emit(
                    [ToolEvent({"type": "tool_call.finished", **_describe(call, result)}) for call in same]
                )

        different: dict[CallKey, tuple[ToolCall, Arguments]] = {}
        for key, call, arguments in zip(keys, calls, parsed, strict=True):
            different.setdefault(key, (call, arguments))
        # Tasks cost more than a call that does not wait.
        for key in [key for key in different if self._toolbox.is_quick(key[0])]:
            await run(key, *different.pop(key))
        await _all([run(key, *call) for key, call in different.items()])
        talk.remember(turn, [(call, results[key]) for call, key in zip(calls, keys, strict=True)])

    async def _call(self, call: ToolCall, arguments: Arguments, plan: ToolPlan, record: Record) -> ToolResult:
        name = call.name
        if name not in plan.server:
            known = ", ".join(sorted(plan.server | plan.client))
            content = orjson.dumps({"error": f"unknown tool {name!r}; available tools: {known}"}).decode()
            return ToolResult(content=content, outcome="error", arguments="{}", parsed=None, seconds=0.0)
        result = await record.run_tool(self._toolbox, name, arguments, call.id)
        record.tools.append(name)
        shown = self._toolbox.metric_name(name)
        self._telemetry.tool_called(shown, result.outcome, result.seconds, record.entry)
        if self._telemetry.log_content:
            fields = {"request_id": record.request_id, **_describe(call, result)}
            log.info("tool call", extra={"fields": fields})
        return result

    def _why_last_ask(self, talk: Conversation) -> str | None:
        """Returns why the next round is the last one, without tools, or None if the loop may go on."""
        if talk.rounds >= self._max_rounds:
            return f"The limit of {self._max_rounds} rounds of tool calls was reached"
        if talk.calls_left(1) == 0:
            return f"The limit of {talk.plan.max_calls} tool calls (max_tool_calls) was reached"
        repeated = talk.repeated_call()
        if repeated:
            return f"{repeated} was called {SAME_CALL_LIMIT} times in a row with the same arguments"
        return None


async def _all(runs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Runs coroutines concurrently, and cancels all of them if one fails or the caller is cancelled."""
    if not runs:
        return
    first, *others = runs
    tasks = [asyncio.create_task(run) for run in others]
    try:
        await first
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()


def _check_tools(tools: frozenset[str], permitted: frozenset[str] | None) -> None:
    if permitted is not None and (others := tools - permitted):
        raise NotPermitted(
            f"This key does not permit the server's tools {', '.join(sorted(others))}. Permitted: "
            f"{', '.join(sorted(permitted)) or 'none'}. Send X-Tool-Execution: client to run them yourself.",
            param="tools",
            code="tool_not_permitted",
        )


def _why_no_answer(talk: Conversation, turn: Turn) -> str | None:
    """Returns a text for an answer that has none, or None if the finish reason explains it."""
    if talk.plan.has_format:
        return None
    if talk.last_ask:
        return f"({talk.last_ask}, and the model gave no answer.)"
    if turn.hidden and turn.finish_reason != "length":
        return "(The model wrote a tool call as text, which was not run, and gave no other answer.)"
    return None


def _describe(call: ToolCall, result: ToolResult | None = None) -> JsonObject:
    fields: JsonObject = {"id": call.id, "name": call.name, "arguments": call.arguments}
    if result:
        fields |= {"outcome": result.outcome, "result": result.content, "seconds": round(result.seconds, 4)}
    return fields
