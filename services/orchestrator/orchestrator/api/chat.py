"""POST /v1/chat/completions: a plain relay, or the tool loop as a stream or as one answer."""

from __future__ import annotations

from collections.abc import Sequence

from ..chat.carried import MARK
from ..chat.conversation import Chunk, Ending, Event, ToolEvent
from ..chat.loop import ChatLoop
from ..chat.token_data import FIELDS
from ..chat.tool_plan import ToolPlan, plan_tools
from ..errors import EngineFailed
from ..protocol import DONE, JsonObject, check_chat_request, dumps, event, exact
from ..tools.toolbox import Toolbox
from .projected import give_hints
from .relay import Relay
from .reply import Reply
from .request import Request

_CARRIES = MARK.encode()


class Chat:
    """Handles the route."""

    def __init__(self, loop: ChatLoop, relay: Relay, toolbox: Toolbox, *, attached: Sequence[str]) -> None:
        self._loop = loop
        self._relay = relay
        self._toolbox = toolbox
        self._attached = attached

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        if self._attached or "tools" in payload or "tandem" in payload or _CARRIES in request.body:
            payload = exact(payload, request.body)
        check_chat_request(payload)
        execution = request.headers.get(b"x-tool-execution")
        plan = plan_tools(
            payload,
            self._toolbox,
            execution=execution.decode("latin-1") if execution else None,
            attached=self._attached,
            permitted=request.record.permitted_tools,
        )
        give_hints(plan.hints, request, reply)
        if not plan.runs_tools:
            body = dumps(plan.request) if plan.changed else request.body
            await self._relay.forward(request, reply, plan.request, body)
            return
        request.body = b""  # the plan has its content
        if plan.stream:
            request.record.stream = True
            reply.expect_stream()
            await self._stream(plan, request, reply)
        else:
            await self._whole(plan, request, reply)

    async def _stream(self, plan: ToolPlan, request: Request, reply: Reply) -> None:
        encoder = _EventEncoder(plan)

        async def emit(events: list[Event]) -> None:
            try:
                encoded = b"".join([encoder.encode(item) for item in events])
            except ValueError as error:
                raise _not_encoded(error) from None
            await reply.write(encoded)

        await self._loop.run(plan, request.record, emit)

    async def _whole(self, plan: ToolPlan, request: Request, reply: Reply) -> None:
        folder = _Folder(plan)

        async def emit(events: list[Event]) -> None:
            for item in events:
                folder.fold(item)

        await self._loop.run(plan, request.record, emit)
        try:
            encoded = dumps(folder.answer)
        except ValueError as error:
            raise _not_encoded(error) from None
        reply.whole(200, encoded)


def _not_encoded(error: Exception) -> EngineFailed:
    return EngineFailed(f"The engine's answer cannot be passed on, because it is nested too deeply: {error}")


class _Identity:
    """The id and time of the first chunk, used for all chunks of an answer."""

    def __init__(self) -> None:
        self._identity: JsonObject = {}

    def of(self, chunk: JsonObject) -> JsonObject:
        if not self._identity:
            self._identity = {key: chunk[key] for key in ("id", "created", "model") if key in chunk}
        return self._identity


class _EventEncoder:
    """Encodes events as server-sent events."""

    def __init__(self, plan: ToolPlan) -> None:
        options = plan.request.get("stream_options") or {}
        self._send_usage = bool(options.get("include_usage"))
        self._identity = _Identity()

    def encode(self, item: Event) -> bytes:
        if isinstance(item, Chunk):
            return self._chunk(item)
        if isinstance(item, ToolEvent):
            identity = self._identity.of({})
            shown = {**identity, "object": "chat.completion.chunk", "choices": [], "tandem": item.event}
            return event(self._with_usage(shown))
        return self._end(item)

    def _chunk(self, item: Chunk) -> bytes:
        choice = {**_choice(item), "delta": item.delta, "finish_reason": None}
        chunk = _without_news(item.chunk) if item.repeats else item.chunk
        shown = {**chunk, **self._identity.of(item.chunk), "choices": [choice]}
        if item.usage:
            shown["usage"] = item.usage
        return event(self._with_usage(shown))

    def _with_usage(self, chunk: JsonObject) -> JsonObject:
        """Adds OpenAI's `usage: null` to a chunk without usage, if the client asked for usage."""
        return {"usage": None, **chunk} if self._send_usage else chunk

    def _end(self, ending: Ending) -> bytes:
        chunk = _without_news(ending.chunk) if ending.repeats else ending.chunk
        last = {**chunk, **self._identity.of(ending.chunk)}
        last.pop("usage", None)
        choice = {**_choice(ending), "delta": {}, "finish_reason": ending.finish_reason}
        encoded = event(self._with_usage({**last, "choices": [choice]}))
        if self._send_usage:
            encoded += event({**last, "choices": [], "usage": ending.usage or None})
        return encoded + DONE


_IDENTITY = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_STATE = ("index", "finish_reason", "stop_reason")
_PROMPT = ("prompt_token_ids", "prompt_logprobs", "prompt_text")


def _choice(item: Chunk | Ending) -> JsonObject:
    """Returns the engine's choice, without what was already sent, and with the data of the shown tokens."""
    choice: JsonObject = item.chunk["choices"][0]
    if item.repeats:
        choice = {key: value for key, value in choice.items() if key in _STATE}
    elif "message" in choice or "text" in choice:
        choice = {key: value for key, value in choice.items() if key not in ("message", "text")}
    if item.tokens is not None:
        none: JsonObject = {field: None for field in FIELDS if field in choice}
        choice = {**choice, **none, **item.tokens}
    return choice


def _of_prompt(chunk: JsonObject) -> JsonObject:
    """Returns what describes the prompt of the first round, which is the client's own."""
    return {key: chunk[key] for key in _PROMPT if key in chunk}


def _without_news(chunk: JsonObject) -> JsonObject:
    """Returns the fields that all chunks of an answer share."""
    return {key: chunk[key] for key in _IDENTITY if key in chunk}


class _Folder:
    """Folds events into one chat.completion."""

    def __init__(self, plan: ToolPlan) -> None:
        self._message: JsonObject = {"role": "assistant", "content": None}
        self._texts: dict[str, list[str]] = {}
        self._arguments: list[list[str]] = []
        self._trace: list[JsonObject] | None = [] if plan.events else None
        self._identity = _Identity()
        self.answer: JsonObject = {}

    def fold(self, item: Event) -> None:
        if isinstance(item, Chunk):
            if not self.answer:
                self.answer = {**self._identity.of(item.chunk), **_of_prompt(item.chunk)}
            self._fold_delta(item.delta)
        elif isinstance(item, ToolEvent):
            if self._trace is not None:
                self._trace.append(item.event)
        else:
            self._end(item)

    def _fold_delta(self, delta: JsonObject) -> None:
        message = self._message
        for key, value in delta.items():
            if value is None:
                message.setdefault(key, None)
            elif key == "tool_calls":
                self._fold_calls(value)
            elif isinstance(value, str) and isinstance(message.get(key), str) and key != "role":
                self._texts.setdefault(key, [message[key]]).append(value)
            else:
                message[key] = value

    def _fold_calls(self, deltas: list[JsonObject]) -> None:
        calls: list[JsonObject] = self._message.setdefault("tool_calls", [])
        for delta in deltas:
            index = delta["index"]
            if index < len(calls):
                self._arguments[index].append((delta.get("function") or {}).get("arguments") or "")
            else:
                call = {key: value for key, value in delta.items() if key != "index"}
                calls.append({**call, "function": {**call["function"]}})
                self._arguments.append([call["function"].get("arguments") or ""])

    def _join_texts(self) -> None:
        """Joins the parts once, since joining each to the text before it would take quadratic time."""
        for key, parts in self._texts.items():
            self._message[key] = "".join(parts)
        for call, parts in zip(self._message.get("tool_calls") or (), self._arguments, strict=True):
            call["function"]["arguments"] = "".join(parts)

    def _end(self, ending: Ending) -> None:
        self._join_texts()
        choice = {**ending.chunk["choices"][0], **(ending.tokens or {}), "message": self._message}
        choice["finish_reason"] = ending.finish_reason
        for field in ("delta", "text"):
            choice.pop(field, None)
        self.answer = {
            **ending.chunk,
            **(self.answer or self._identity.of(ending.chunk)),
            "choices": [choice],
            "usage": ending.usage or None,
        }
        if self._trace is not None:
            self.answer["tandem"] = {"events": self._trace}
