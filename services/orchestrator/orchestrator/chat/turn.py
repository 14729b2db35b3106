"""Reads one turn of the model: takes the engine's chunks, returns what the client may see. Without I/O.

A non-streaming answer is read as a single chunk whose delta is the whole message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EngineFailed
from ..protocol import JsonObject, ToolCall
from .carried import new_id, plain_id
from .markup import Parameters, Rescue
from .scanner import CallScanner
from .shapes import calls_of, function_of, index_of, message_of, reject_nameless_call, text_of

_MAX_CHARACTERS = 16_777_216
_CALL_SIZE = 256  # bytes kept for a call, without its arguments


@dataclass(slots=True)
class RunTools:
    """All calls are for the server: run them and ask the engine again."""

    calls: list[ToolCall]


@dataclass(slots=True)
class HandBack:
    """The turn contains calls that the client must run. Run the server's, and return the client's."""

    calls: list[ToolCall]


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
        client_calls: the calls for the client that it has not seen.
        positions: for each of `calls`, its position among all calls of the turn.
        hands_back: whether there are calls for the client.
        hidden: whether text that was a call was hidden from the client.
    """

    text: str
    reasoning: str
    calls: list[ToolCall]
    client_calls: list[ToolCall]
    finish_reason: str
    positions: Sequence[int] = ()
    hands_back: bool = False
    hidden: bool = False

    @property
    def has_calls(self) -> bool:
        return bool(self.calls or self.client_calls) or self.hands_back

    def next_step(self) -> NextStep:
        """Returns the next step. With the finish reason `length`, the last call may be incomplete."""
        if self.finish_reason == "length":
            return Finish("length")
        if self.hands_back:
            return HandBack(self.calls)
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

    index: int
    id: str
    arguments: list[str]
    name: str = ""
    live: bool = False


class TurnReader:
    """Reads the chunks of one turn.

    Args:
        in_play: the names of all tools in the request.
        client: the names of those that the client runs.
        rescue: how to handle calls that are written as text.
        bare: whether a bare JSON object may be a call.
        verbatim: whether the text is passed on as it is, and contains no calls.
        parameters: returns the schema of a tool's arguments.
        is_repeated: returns whether a call with this name and arguments repeats what others wrote.
        tools_offered: False for a last round without tools, whose calls are dropped.
        live: returns the id under which the client sees its call while it arrives, in turns of one call:
            others are ignored. If None, the turn has the calls for the client, whose ids depend on all calls.
        first: whether this is the first turn of the answer, which includes the role.
    """

    def __init__(
        self,
        in_play: frozenset[str],
        client: frozenset[str],
        *,
        rescue: Rescue,
        bare: bool = True,
        verbatim: bool = False,
        parameters: Parameters = lambda _: {},
        is_repeated: Callable[[str, str], bool] = lambda *_: False,
        tools_offered: bool = True,
        live: Callable[[str], str] | None = None,
        first: bool = True,
    ) -> None:
        self._client = client
        self._tools_offered = tools_offered
        self._live = live
        self._first = first
        self._in_play = in_play
        self._rescue = rescue
        self._bare = bare and rescue.bare
        self._verbatim = verbatim
        self._parameters = parameters
        self._is_repeated = is_repeated
        self._scanner: CallScanner | None = None
        self._size = 0
        self._drafts: list[_Draft] = []
        self._current: dict[int, _Draft] = {}  # by index: the call that further parts belong to
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

    @property
    def keeps_call_for_client(self) -> bool:
        """Whether the last call so far is for the client and still hidden from it."""
        return bool(self._drafts) and self._drafts[-1].name in self._client

    def read(self, choice: JsonObject) -> JsonObject | None:
        """Returns what the client may see of the choice's delta, or None.

        Raises:
            EngineFailed: the delta cannot be read, or the turn is too long.
        """
        if choice.get("finish_reason"):
            reason = choice["finish_reason"]
            self._finish_reason = reason if isinstance(reason, str) else "stop"
        visible: JsonObject = {}
        message = message_of(choice)
        value: Any
        for key, value in message.items():
            if key == "role":
                if self._first:
                    visible[key] = value if isinstance(value, str) else "assistant"
            elif not value:
                if key != "tool_calls":
                    visible[key] = value if value is None else text_of(value, key)
            elif key == "content":
                visible[key] = self._read_text(value)
            elif key == "tool_calls":
                if calls := self._read_calls(value):
                    visible[key] = calls
            else:
                visible[key] = self._read_other(key, value, message)
        if "role" not in visible and not any(visible.values()):
            return None
        self._first = False
        return visible

    def _read_other(self, key: str, value: Any, message: JsonObject) -> Any:
        if key in ("reasoning", "reasoning_content"):
            text = text_of(value, key)
            if text and (key == "reasoning" or not message.get("reasoning")):  # some engines send both
                self._reasoning.append(text)
            value = text
        if isinstance(value, str):
            self._count(len(value))
        return value

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
        shown, rescued, hidden = self._end_text(self._scanner)
        reasoning = "".join(self._reasoning)
        if reasoning and not (shown or hidden or self._drafts or "".join(self._text).strip()):
            reasoning, rescued, hidden = self._end_reasoning(reasoning)
        if shown:
            self._text.append(shown)
            visible["content"] = shown
        live = any(draft.live for draft in self._drafts)
        if live and self._finish_reason != "length":
            visible |= self._missing_arguments()
        calls = self._finished_calls() + rescued
        if live or not self._tools_offered:
            calls = []
        for_client = [call for call in calls if call.name in self._client]
        turn = Turn(
            text="".join(self._text),
            reasoning=reasoning,
            calls=[call for call in calls if call.name not in self._client],
            positions=[at for at, call in enumerate(calls) if call.name not in self._client],
            client_calls=for_client,
            finish_reason=self._finish_reason or "stop",
            hands_back=live or bool(for_client),
            hidden=hidden,
        )
        return visible or None, turn

    def _finished_calls(self) -> list[ToolCall]:
        """Returns the calls that the engine's parser found.

        Raises:
            EngineFailed: a call has no name.
        """
        if not self._drafts:
            return []
        drafts = sorted(self._drafts, key=lambda draft: draft.index)
        if self._finish_reason != "length" and any(d.arguments and not d.name for d in drafts):
            reject_nameless_call()
        return [ToolCall(d.id, d.name, "".join(d.arguments)) for d in drafts if d.name]

    def _end_text(self, scanner: CallScanner | None) -> tuple[str, list[ToolCall], bool]:
        """Returns the rest of the text, the calls to run at its end, and whether any text was hidden."""
        if scanner is None:
            return "", [], False
        cut = self._finish_reason == "length"
        shown = scanner.end(cut=cut)
        found = scanner.found
        if any(self._is_repeated(name, arguments) for name, arguments in found.calls):
            return shown + "".join(found.source), [], False
        # If the engine's parser found calls, what it left in the text is not a call.
        runs = self._rescue.runs and self._tools_offered and not cut and not self._drafts
        rescued = [ToolCall(new_id(), *call) for call in found.calls] if runs else []
        return shown, rescued, found.hidden

    def _end_reasoning(self, reasoning: str) -> tuple[str, list[ToolCall], bool]:
        """Does the same for reasoning that nothing follows: some models call tools before they end it."""
        scanner = self._new_scanner(bare=False)
        kept = scanner.feed(reasoning)
        rest, rescued, hidden = self._end_text(scanner)
        return kept + rest, rescued, hidden

    def _read_text(self, value: Any) -> str:
        text = value if type(value) is str else text_of(value, "content")
        self._count(len(text))
        if self._verbatim:
            self._text.append(text)
            return text
        if self._scanner is None:
            self._scanner = self._new_scanner(bare=self._bare)
        shown = self._scanner.feed(text)
        if shown:
            self._text.append(shown)
        return shown

    def _new_scanner(self, *, bare: bool) -> CallScanner:
        return CallScanner(
            self._rescue.markup,
            bare=bare,
            names=self._in_play,
            parameters=self._parameters,
            drop=not self._tools_offered,
        )

    def _read_calls(self, deltas: Any) -> list[JsonObject]:
        """Collects parts of calls and returns those that the client sees while they arrive."""
        visible = []
        for position, delta in enumerate(calls_of(deltas)):
            function = function_of(delta)
            draft = self._draft_of(delta, function, position)
            arguments = function.get("arguments")
            self._count(_CALL_SIZE + len(arguments or ""))
            if arguments:
                draft.arguments.append(arguments)
            if function.get("name") and not draft.name:
                draft.name = function["name"]
                draft.live = self._is_live(draft)
            if draft.live and self._live:
                named = {"id": self._live(draft.id), "type": "function"} if function.get("name") else {}
                visible.append({**delta, "index": 0, "function": function, **named})
        return visible

    def _is_live(self, draft: _Draft) -> bool:
        if not self._live or not self._tools_offered:
            return False
        return self._drafts == [draft] and draft.name in self._client

    def _draft_of(self, delta: JsonObject, function: JsonObject, position: int) -> _Draft:
        """Returns the call that a part belongs to.

        A name with a new id, or another name without an id, starts another call, even at the same index.
        """
        index = delta.get("index")
        if type(index) is not int:
            index = index_of(delta, position)
        draft = self._current.get(index)
        given, name = delta.get("id"), function.get("name")
        if draft and not given and not name:
            return draft
        id = plain_id(str(given)) if given else None
        if draft and id != draft.id:
            same = [other for other in self._drafts if other.id == id and other.index == index]
            starts = bool(name and draft.name) and (id is not None or name != draft.name)
            draft = same[0] if same else None if starts else draft
        if draft is None:
            draft = _Draft(index, id or new_id(), [])
            self._drafts.append(draft)
        self._current[index] = draft
        return draft

    def _missing_arguments(self) -> JsonObject:
        """Adds `{}` to a call without arguments: engines omit them, but clients expect JSON text."""
        missing = not any(draft.arguments for draft in self._drafts if draft.live)
        return {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]} if missing else {}
