"""The state of one request: its history, its usage, and what the client has seen. Without I/O."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from ..control_tokens import ControlTokens
from ..engine.address import Address
from ..errors import EngineFailed
from ..protocol import JsonObject, ToolCall, add_usage, dumps
from ..tools.toolbox import ToolResult
from .carried import CarriedCall, carry
from .markup import Rescue
from .request_fields import fields_of_round
from .shapes import choice_of, message_of
from .token_data import TokenData, covering, is_requested, merged
from .tool_choice import function_name
from .tool_plan import ToolPlan
from .turn import Turn, TurnReader

SAME_CALL_LIMIT = 3
_OTHERS = ("user", "tool", "function")

CallKey = tuple[str, str]
"""The name of a tool and its canonical arguments, which are the same for equal calls."""


@dataclass(slots=True)
class Chunk:
    """An engine's chunk, the part of its delta that the client may see, and the usage so far.

    Attributes:
        tokens: the data of the delta's tokens, which replaces that of the chunk; None if not requested.
        repeats: whether an earlier event has the same chunk, so that only its delta is new.
    """

    chunk: JsonObject
    delta: JsonObject
    usage: JsonObject | None
    tokens: JsonObject | None = None
    repeats: bool = False


@dataclass(slots=True)
class ToolEvent:
    """The start or end of a tool call, for clients that requested such events."""

    event: JsonObject


@dataclass(slots=True)
class Ending:
    """The end of an answer: the engine's last chunk, the finish reason, and the usage of all rounds.

    Attributes:
        tokens, repeats: as in `Chunk`. If the answer is not streamed, `tokens` has those of the whole answer.
    """

    chunk: JsonObject
    finish_reason: str
    usage: JsonObject
    tokens: JsonObject | None = None
    repeats: bool = False


Event = Chunk | ToolEvent | Ending


class Conversation:
    """One request and its rounds."""

    def __init__(self, plan: ToolPlan, rescue: Rescue, control_tokens: ControlTokens) -> None:
        self.plan = plan
        self._all_tools = plan.server | plan.client
        self._control_tokens = control_tokens
        self._rescue = rescue
        self.messages: list[JsonObject] = [self._prepared(m) for m in plan.request["messages"]]
        self.rounds = 0
        self.calls = 0  # that the server has run
        self.last_ask: str | None = None
        self.usage: JsonObject = {}
        self.engine: Address | None = None
        self.last_chunk: JsonObject = {}
        self._shown_chunk: JsonObject | None = None
        self._tokens = TokenData() if is_requested(plan.request) else None
        self._whole_tokens: list[JsonObject] = []
        self._shown_tail = ""
        self.shown_this_turn = False
        self._text_this_turn = False
        self._shown_reasoning_tail = ""
        self._reasoning_this_turn = False
        self._has_choice = False
        self._streaks: dict[CallKey, int] = {}
        self._ran: list[list[CarriedCall]] = []

    def body(self) -> bytes:
        """Returns the request to the engine for this round."""
        plan, offered = self.plan, self._offered
        request = fields_of_round(plan.request, first=self.rounds == 1, tools=bool(offered))
        if plan.must_call_client:
            request["tool_choice"] = "required"
        if self.last_ask and offered:
            request["tools"] = [tool for tool in request["tools"] if function_name(tool) in offered]
        request["messages"] = self.messages
        if plan.stream:
            request["stream_options"] = {**(request.get("stream_options") or {}), "include_usage": True}
        return dumps(request)

    @property
    def _offered(self) -> frozenset[str] | None:
        """The names of the tools that this round offers."""
        if self.last_ask is None:
            return self._all_tools
        return self.plan.client if self.plan.must_call_client else None

    @property
    def drafts(self) -> bool:
        """Whether the text of this round is not shown, since the answer must have a format that it lacks."""
        return self.plan.has_format and self._offered is not None

    def begin_turn(self) -> None:
        """Starts a turn and discards what an earlier attempt read."""
        plan, offered = self.plan, self._offered
        self.shown_this_turn = False
        self._text_this_turn = self._reasoning_this_turn = self._has_choice = False
        self._left_out = (0, 0)
        if self._tokens:
            self._tokens.drop()
        self._reader = TurnReader(
            offered or self._all_tools,
            plan.client,
            rescue=self._rescue,
            bare=not plan.has_format,
            verbatim=plan.has_format and self._offered is None,
            parameters=plan.parameters,
            # Methods of this object would make it part of a reference cycle.
            is_repeated=functools.partial(_is_repeated, self.messages),
            tools_offered=offered is not None,
            live=None
            if plan.request.get("parallel_tool_calls", True)
            else functools.partial(carry, rounds=self._ran),
            first=self.rounds == 1,
        )

    def end_turn(self) -> tuple[Event | None, Turn]:
        """Returns the rest of what the client may see, and the turn.

        Raises:
            EngineFailed: the engine's answer cannot be read.
        """
        if not self._has_choice:
            raise EngineFailed("The engine's answer has no choices")
        rest, turn = self._reader.end()
        if rest and self.drafts:
            rest = _without_text(rest)
        event = self.tail(rest) if rest else None
        if self._tokens:
            if not self.plan.stream:
                data = self._tokens.take_all()
                in_part = turn.calls or turn.hidden
                self._whole_tokens.append(covering(data, turn.text.rstrip()) if in_part else data)
            elif turn.hidden and not turn.hands_back:
                self._tokens.drop()
        return event, turn

    def visible(self, chunks: list[JsonObject]) -> list[Event]:
        """Returns what the client may see of some chunks of this turn.

        Raises:
            EngineFailed: a chunk cannot be read.
        """
        events: list[Event] = []
        drafts = self.drafts
        for chunk in chunks:
            choices = chunk.get("choices")
            if type(choices) is list and choices and type(choices[0]) is dict:
                choice = choices[0]
            elif (odd := choice_of(chunk)) is None:
                continue
            else:
                choice = odd
                chunk = {**chunk, "choices": [choice]}  # noqa: PLW2901
            self.last_chunk = chunk
            self._has_choice = True
            delta = self._reader.read(choice)
            if delta is not None and drafts:
                delta = _without_text(delta)
            elif self._tokens:
                self._track(choice, delta)
            if delta is not None:
                events.append(self._show(chunk, delta))
        return events

    def _track(self, choice: JsonObject, shown: JsonObject | None) -> None:
        """Keeps the data of a choice's tokens, unless they belong to a call that the client does not see."""
        assert self._tokens is not None
        written = message_of(choice)
        hides_calls = bool(written.get("tool_calls")) and not (shown and any(shown.values()))
        if self.plan.stream and hides_calls and not self._reader.keeps_call_for_client:
            return
        # The data of text that is not shown here waits for it, in `_show`.
        text = written.get("content")
        length = len(text) if isinstance(text, str) else 0
        (drops, stripped), left_out = self._left_out, self._reader.left_out
        if left_out[0] > drops:
            self._tokens.drop()
            length = len((shown or {}).get("content") or "")
        else:
            length -= left_out[1] - stripped
        self._left_out = left_out
        self._tokens.add(choice, length)

    def tail(self, delta: JsonObject) -> Event:
        return self._show(self.last_chunk, delta)

    def _show(self, chunk: JsonObject, delta: JsonObject) -> Chunk:
        self.shown_this_turn = True
        text = delta.get("content")
        tokens = None
        if self._tokens:
            tokens = self._tokens.take(len(text) if text else 0) if self.plan.stream else {}
        if text:
            if not self._text_this_turn and not self.plan.shows_rounds and self._shown_tail.strip():
                delta["content"] = "\n\n" + text
            self._text_this_turn = True
            self._shown_tail = text[-1:]
        if not text or len(delta) > 1:
            self._separate_reasoning(delta)
        usage = chunk.get("usage") if self.plan.stream else None
        repeats = chunk is self._shown_chunk
        self._shown_chunk = chunk
        return Chunk(
            chunk, delta, add_usage(self.usage, usage) if type(usage) is dict else None, tokens, repeats
        )

    def _separate_reasoning(self, delta: JsonObject) -> None:
        """Separates the reasoning of two rounds, like their texts."""
        separates = (
            not self._reasoning_this_turn
            and not self.plan.shows_rounds
            and self._shown_reasoning_tail.strip()
        )
        for field in ("reasoning", "reasoning_content"):
            text = delta.get(field)
            if text:
                delta[field] = "\n\n" + text if separates else text
                self._reasoning_this_turn = True
                self._shown_reasoning_tail = text[-1:]

    def hand_back(self, turn: Turn, ran: int = 0) -> list[Event]:
        """Returns what the client has not seen of its calls. Its first one carries what the server ran.

        Args:
            ran: how many calls of this turn the server has run.
        """
        calls = turn.client_calls
        if not calls:
            return []
        if turn.finish_reason != "length":
            calls = [ToolCall(call.id, call.name, call.arguments or "{}") for call in calls]
            calls[0].id = carry(calls[0].id, self._ran, turn.positions[:ran])
        return [self.tail({"tool_calls": [{"index": n, **call.wire()} for n, call in enumerate(calls)]})]

    def ending(self, reason: str) -> Ending:
        tokens = None
        if self._tokens:
            tokens = self._tokens.take_all() if self.plan.stream else merged(self._whole_tokens)
        return Ending(self.last_chunk, reason, self.usage, tokens, self.last_chunk is self._shown_chunk)

    def remember(self, turn: Turn, results: list[tuple[ToolCall, ToolResult]]) -> None:
        """Adds a turn and its results to the history, in the order of the calls."""
        message = turn.message([call.wire(result.arguments) for call, result in results])
        if self.rounds == 1 and self.plan.request.get("continue_final_message"):
            message = self._continued(message)
        self.messages.append(message)
        self.calls += len(results)
        contents = [self._control_tokens.neutralize(result.content) for _, result in results]
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "content": content}
            for (call, _), content in zip(results, contents, strict=True)
        ]
        self.messages += [_images(call, result) for call, result in results if result.images]
        if self.plan.client and self.plan.carries:
            ran = zip(results, contents, strict=True)
            self._ran.append([_carried(call, result, content) for (call, result), content in ran])
        keys = {(call.name, _arguments(call, result)) for call, result in results}
        self._streaks = {key: self._streaks.get(key, 0) + 1 for key in keys}

    def _continued(self, message: JsonObject) -> JsonObject:
        """Takes the message that the turn continues from the history, and returns both as one."""
        start = self.messages[-1]
        text = start.get("content") or ""
        if start.get("role") != "assistant" or not isinstance(text, str):
            return message
        self.messages.pop()
        more = message["content"] or ""
        repeats = self.plan.request.get("echo") and more.startswith(text)
        return {**start, **message, "content": more if repeats else text + more}

    def _prepared(self, message: JsonObject) -> JsonObject:
        """Returns a message of the client in the form that the engine gets."""
        if message.get("role") in ("tool", "function"):
            content = self._control_tokens.neutralize_content(message.get("content"))
            return {**message, "content": content}
        return _without_empty_calls(message)

    def calls_left(self, most: int) -> int:
        """Returns how many calls the server may still run, at most `most`."""
        limit = self.plan.max_calls
        return most if limit is None else min(most, limit - self.calls)

    def repeated_call(self) -> str | None:
        """Returns the name of a tool that was called with the same arguments in too many rounds in a row."""
        return next((name for (name, _), n in self._streaks.items() if n >= SAME_CALL_LIMIT), None)


def _images(call: ToolCall, result: ToolResult) -> JsonObject:
    """Returns a message with a result's images, which a tool's message cannot contain."""
    text = {"type": "text", "text": f"Images in the result of {call.name}, call {call.id}:"}
    return {"role": "user", "content": [text, *result.images]}


def _without_text(delta: JsonObject) -> JsonObject | None:
    """Returns a delta without its text, None if nothing is left."""
    kept = {**delta, "content": None} if "content" in delta else delta
    return kept if "role" in kept or any(kept.values()) else None


def _carried(call: ToolCall, result: ToolResult, content: str) -> CarriedCall:
    note = f"\n[{len(result.images)} images are left out]" if result.images else ""
    return call.name, result.arguments, content + note


def _is_repeated(messages: list[JsonObject], name: str, arguments: str) -> bool:
    """Returns whether the user or a tool result contains this call, so that the model only quotes it."""
    others = _squeezed(
        "\n".join(
            text
            for message in messages
            if message.get("role") in _OTHERS
            for text in _texts(message.get("content"))
        )
    )
    return _squeezed(name) in others and _squeezed(arguments) in others


def _squeezed(text: str) -> str:
    """Removes what may differ between two spellings of the same call."""
    return "".join(text.split()).replace("\\", "")


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def _arguments(call: ToolCall, result: ToolResult) -> str:
    """Returns the arguments in canonical form, or as the model wrote them if they cannot be parsed."""
    return call.arguments if result.parsed is None else result.arguments


def _without_empty_calls(message: JsonObject) -> JsonObject:
    """Drops `tool_calls: []`, which engines reject or misread. Clients that echo whole answers send it."""
    if message.get("tool_calls") == []:
        return {key: value for key, value in message.items() if key != "tool_calls"}
    return message
