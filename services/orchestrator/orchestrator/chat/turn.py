"""Reads one turn of the model: takes the engine's chunks, returns what the client may see. Without I/O.

A non-streaming answer is read as a single chunk whose delta is the whole message.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import EngineFailed
from ..protocol import JsonObject, ToolCall
from .markup import Parameters, Rescue
from .scanner import CallScanner

_MAX_CHARACTERS = 16_777_216
_CALL_SIZE = 256  # bytes kept for a call, without its arguments


@dataclass(slots=True)
class RunTools:
    """All calls are for the server: run them and ask the engine again."""

    calls: list[ToolCall]


@dataclass(slots=True)
class HandBack:
    """The turn contains calls that the client must run."""


@dataclass(slots=True)
class Finish:
    """The answer is complete, with the engine's finish reason."""

    reason: str


NextStep = RunTools | HandBack | Finish


@dataclass(slots=True)
class Turn:
    """A whole turn.

    Attributes:
        calls: the calls for the server.
        client_calls: the number of calls for the client.
        hidden: whether text that was a call was hidden from the client.
    """

    text: str
    reasoning: str
    calls: list[ToolCall]
    client_calls: int
    finish_reason: str
    hidden: bool = False

    def next_step(self) -> NextStep:
        """Returns the next step. With the finish reason `length`, the last call may be incomplete."""
        if self.finish_reason == "length":
            return Finish("length")
        if self.client_calls:
            return HandBack()
        if self.calls:
            return RunTools(self.calls)
        return Finish("stop" if self.finish_reason == "tool_calls" else self.finish_reason)

    def message(self, calls: Sequence[JsonObject]) -> JsonObject:
        """Returns the assistant message for this turn in the history."""
        message: JsonObject = {"role": "assistant", "content": self.text or None, "tool_calls": list(calls)}
        if self.reasoning:
            message["reasoning"] = self.reasoning
        return message


@dataclass(slots=True)
class _Draft:
    """A structured call whose parts are still arriving."""

    id: str
    arguments: list[str]
    name: str = ""
    client_index: int | None = None


class TurnReader:
    """Reads the chunks of one turn.

    Args:
        in_play: the names of all tools in the request.
        client: the names of those that the client runs.
        rescue: how to handle calls that are written as text.
        bare: whether a bare JSON object may be a call.
        parameters: returns the schema of a tool's arguments.
        is_repeated: returns whether a call with this name and arguments repeats what others wrote.
        tools_offered: False for a last round without tools, whose calls are dropped.
        first: whether this is the first turn of the answer, which includes the role.
    """

    def __init__(
        self,
        in_play: frozenset[str],
        client: frozenset[str],
        *,
        rescue: Rescue,
        bare: bool = True,
        parameters: Parameters = lambda _: {},
        is_repeated: Callable[[str, str], bool] = lambda *_: False,
        tools_offered: bool = True,
        first: bool = True,
    ) -> None:
        self._client = client
        self._tools_offered = tools_offered
        self._first = first
        self._in_play = in_play
        self._rescue = rescue
        self._bare = bare and rescue.bare
        self._parameters = parameters
        self._is_repeated = is_repeated
        self._scanner: CallScanner | None = None
        self._size = 0
        self._drafts: dict[int, _Draft] = {}
        self._client_calls = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish_reason: str | None = None

    @property
    def complete(self) -> bool:
        return self._finish_reason is not None

    @property
    def left_out(self) -> tuple[int, int]:
        """How many times calls were dropped from the text, and how many white characters after them."""
        return (self._scanner.left_out[0], self._scanner.left_out[1]) if self._scanner else (0, 0)

    def read(self, choice: JsonObject) -> JsonObject | None:
        """Returns what the client may see of the choice's delta, or None."""
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
        visible: JsonObject = {}
        for key, value in (choice.get("delta") or choice.get("message") or {}).items():
            if key == "tool_calls":
                calls = self._read_calls(value) if value else None
                if calls:
                    visible["tool_calls"] = calls
            elif not value and key != "role":
                visible[key] = value
            elif key == "content":
                visible["content"] = self._read_text(value)
            elif key != "role" or self._first:
                if isinstance(value, str):
                    self._count(len(value))
                if key in ("reasoning", "reasoning_content"):
                    self._reasoning.append(value)
                visible[key] = value
        if "role" not in visible and not any(visible.values()):
            return None
        self._first = False
        return visible

    def _count(self, size: int) -> None:
        """Counts characters that are kept until the end of the turn.

        Raises:
            EngineFailed: the turn is longer than any model writes.
        """
        self._size += size
        if self._size > _MAX_CHARACTERS:
            raise EngineFailed(f"The engine's answer has more than {_MAX_CHARACTERS:,} characters")

    def end(self) -> tuple[JsonObject | None, Turn]:
        """Returns the rest of what the client may see, and the turn."""
        visible: JsonObject = {}
        shown, rescued, hidden = self._end_text()
        if shown:
            self._text.append(shown)
            visible["content"] = shown
        calls = [
            ToolCall(d.id, d.name, "".join(d.arguments))
            for _, d in sorted(self._drafts.items())
            if d.client_index is None and d.name
        ]
        if (self._client_calls or rescued) and self._finish_reason != "length" and self._tools_offered:
            handed = self._missing_arguments()
            handed += [self._client_delta(call) for call in rescued if call.name in self._client]
            if handed:
                visible["tool_calls"] = handed
            calls += [call for call in rescued if call.name not in self._client]
        turn = Turn(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            calls=calls if self._tools_offered else [],
            client_calls=self._client_calls,
            finish_reason=self._finish_reason or "stop",
            hidden=hidden,
        )
        return visible or None, turn

    def _end_text(self) -> tuple[str, list[ToolCall], bool]:
        """Returns the rest of the text, the calls to run at its end, and whether any text was hidden."""
        if self._scanner is None:
            return "", [], False
        cut = self._finish_reason == "length"
        shown = self._scanner.end(cut=cut)
        found = self._scanner.found
        if any(self._is_repeated(name, arguments) for name, arguments in found.calls):
            return shown + "".join(found.source), [], False
        # If the engine's parser found calls, what it left in the text is not a call.
        runs = self._rescue.runs and self._tools_offered and not cut and not self._drafts
        rescued = [ToolCall(_new_id(), *call) for call in found.calls] if runs else []
        return shown, rescued, found.hidden

    def _read_text(self, text: str) -> str:
        self._count(len(text))
        if self._scanner is None:
            self._scanner = CallScanner(
                self._rescue.markup,
                bare=self._bare,
                names=self._in_play,
                parameters=self._parameters,
                drop=not self._tools_offered,
            )
        shown = self._scanner.feed(text)
        if shown:
            self._text.append(shown)
        return shown

    def _read_calls(self, deltas: list[JsonObject]) -> list[JsonObject]:
        """Collects parts of calls and returns those for the client, numbered from 0."""
        visible = []
        for position, delta in enumerate(deltas):
            index = delta.get("index", position)
            function = delta.get("function") or {}
            draft = self._drafts.get(index)
            if draft is None:
                draft = self._drafts[index] = _Draft(delta.get("id") or _new_id(), [])
            arguments = function.get("arguments")
            self._count(_CALL_SIZE + len(arguments or ""))
            if arguments:
                draft.arguments.append(arguments)
            if function.get("name") and not draft.name:
                draft.name = function["name"]
                if draft.name in self._client and self._tools_offered:
                    draft.client_index = self._client_calls
                    self._client_calls += 1
                    visible.append({**delta, "id": draft.id, "type": "function", "index": draft.client_index})
            elif draft.client_index is not None:
                visible.append({**delta, "index": draft.client_index})
        return visible

    def _missing_arguments(self) -> list[JsonObject]:
        """Adds `{}` to calls without arguments: engines omit them, but clients expect JSON text."""
        return [
            {"index": draft.client_index, "function": {"arguments": "{}"}}
            for draft in self._drafts.values()
            if draft.client_index is not None and not draft.arguments
        ]

    def _client_delta(self, call: ToolCall) -> JsonObject:
        self._client_calls += 1
        return {"index": self._client_calls - 1, **call.wire()}


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
