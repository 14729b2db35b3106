"""Carries the server's tool calls and their results in the id of a client's call.

An answer that ends with calls for the client ends the request, and the next one contains what the client
echoes: its own calls under their ids, and their results. The calls that the server ran would be lost. So the
id of the client's first call contains them, and they are put back into the history when the id returns. The
client need not know, and no server keeps anything.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from ..errors import InvalidRequest
from ..protocol import JsonObject
from ..tools.results import render

MARK = "-tandem1-"
"""Separates the id of a call from what it carries. An id has only letters, digits, - and _."""

_MAX_BYTES = 65_536
_MOST_BYTES = 4 * _MAX_BYTES  # with names, and notes on what was left out
_MAX_CALLS = 2_048
_ARGUMENTS_LEFT_OUT = "{}"

CarriedCall = tuple[str, str, str]
"""The name of a tool, its arguments as JSON text, and its result."""

Round = Sequence[CarriedCall]


def carry(id: str, rounds: Sequence[Round], positions: Sequence[int] = ()) -> str:
    """Returns an id for a call that also contains the calls that the server ran before it.

    If they exceed 64 KiB, each result is truncated to an equal share.

    Args:
        positions: for each call of the last round, its position among all calls of the turn that the client
            sees. Empty if the last round was a turn of its own.
    """
    return f"{id}{MARK}{_encode(rounds, positions)}" if rounds else id


def new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def plain_id(id: str) -> str:
    """Returns the id that an engine gave to a call, changed if it looks as if it carried something."""
    return id.replace(MARK, "_")


def carries(id: str) -> bool:
    """Returns whether an id carries calls that can be read."""
    return MARK in id and _decode(id) is not None


def restore(messages: list[JsonObject]) -> list[JsonObject] | None:
    """Returns the history with the calls that its ids carry, each where the model made it.

    Returns None if no id carries anything. An id that cannot be read, since a client cut it, stays as it is.

    Raises:
        InvalidRequest: the ids carry more calls than any answer has.
    """
    if not any("tool_calls" in message for message in messages):
        return None
    history = _History()
    for message in messages:
        history.add(message)
    history.sort_results()
    return history.messages if history.short else None


class _History:
    """The messages so far, with what their ids carry.

    Attributes:
        short: the ids that carried something, and what they are without it.
    """

    def __init__(self) -> None:
        self.messages: list[JsonObject] = []
        self.short: dict[str, str] = {}
        self._room = _MAX_CALLS
        self._results: list[JsonObject] = []  # of the server's calls in the last mixed turn
        self._order: list[str] = []

    def add(self, message: JsonObject) -> None:
        if message.get("role") != "tool":
            self.sort_results()
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and isinstance(calls, list):
            for id in _ids(calls):
                calls = self._restore(id, calls)
            message = {**message, "tool_calls": calls}
        self.messages.append(_with_short_ids(message, self.short))

    def _restore(self, id: str, calls: list[Any]) -> list[Any]:
        """Adds the turns that an id carries. Returns the calls of its message with those of the same turn."""
        carried = _decode(id)
        if carried is None:
            return calls
        rounds, positions = carried
        self._room -= sum(map(len, rounds))
        if self._room < 0:
            raise InvalidRequest(
                f"The ids of the tool calls in messages carry more than {_MAX_CALLS:,} calls of the "
                "server's tools: shorten the history",
                param="messages",
            )
        short = self.short[id] = id.partition(MARK)[0]
        turns = [_turn(short, number, one) for number, one in enumerate(rounds, 1)]
        if positions:
            ran, self._results = turns.pop()
            calls = list(calls)
            for position, call in sorted(zip(positions, ran, strict=True), key=lambda pair: pair[0]):
                calls.insert(position, call)
            self._order = [self.short.get(its, its) for its in _ids(calls)]
        for ran, results in turns:
            self.messages += [{"role": "assistant", "content": None, "tool_calls": ran}, *results]
        return calls

    def sort_results(self) -> None:
        """Adds the server's results of a mixed turn to the client's, in the order of the calls.

        Many models' templates do not show the ids, so that only the order says which result is whose.
        """
        if not self._results:
            return
        start = len(self.messages)
        while start and self.messages[start - 1].get("role") == "tool":
            start -= 1
        rank = {id: position for position, id in enumerate(self._order)}
        both = [*self._results, *self.messages[start:]]
        self.messages[start:] = sorted(both, key=lambda message: rank.get(_answered(message), len(rank)))
        self._results = []


def _encode(rounds: Sequence[Round], positions: Sequence[int]) -> str:
    encoded = orjson.dumps([rounds, positions])
    if len(encoded) > _MAX_BYTES:
        share = _MAX_BYTES // (2 * sum(map(len, rounds)))
        kept = [[_shortened(call, share) for call in one] for one in rounds]
        while len(encoded := orjson.dumps([kept, positions])) > _MOST_BYTES:
            del kept[0]
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def _shortened(call: CarriedCall, share: int) -> CarriedCall:
    name, arguments, result = call
    if len(arguments.encode()) > share:
        arguments = _ARGUMENTS_LEFT_OUT
    return name, arguments, render(result, share)


def _decode(id: str) -> tuple[list[list[list[str]]], list[int]] | None:
    """Returns the rounds and positions that an id carries, None if it cannot be read."""
    _, mark, text = id.partition(MARK)
    if not mark or len(text) > 2 * _MOST_BYTES:
        return None
    try:
        value = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        rounds, positions = value
        well_formed = (
            isinstance(rounds, list)
            and isinstance(positions, list)
            and all(isinstance(one, list) and one and all(map(_is_call, one)) for one in rounds)
            and all(type(position) is int and position >= 0 for position in positions)
            and bool(rounds)
            and len(positions) in (0, len(rounds[-1]))
        )
    except (ValueError, TypeError):
        return None
    return (rounds, positions) if well_formed else None


def _is_call(call: object) -> bool:
    return isinstance(call, list) and len(call) == 3 and all(isinstance(part, str) for part in call)


def _turn(id: str, number: int, calls: Sequence[Sequence[str]]) -> tuple[list[JsonObject], list[JsonObject]]:
    """Returns the calls of a round and the messages with their results.

    Their ids are always the same, so that engines find the prefix in their cache.
    """
    ids = [f"{id}-{number}-{position}" for position in range(len(calls))]
    made: list[JsonObject] = [
        {"id": its, "type": "function", "function": {"name": name, "arguments": arguments}}
        for its, (name, arguments, _) in zip(ids, calls, strict=True)
    ]
    return made, [
        {"role": "tool", "tool_call_id": its, "content": result}
        for its, (_, _, result) in zip(ids, calls, strict=True)
    ]


def _answered(message: JsonObject) -> str:
    id = message.get("tool_call_id")
    return id if isinstance(id, str) else ""


def _ids(calls: object) -> list[str]:
    entries = calls if isinstance(calls, list) else []
    ids = [call.get("id") for call in entries if isinstance(call, dict)]
    return [id for id in ids if isinstance(id, str)]


def _with_short_ids(message: JsonObject, short: dict[str, str]) -> JsonObject:
    answered, calls = message.get("tool_call_id"), message.get("tool_calls")
    if isinstance(answered, str) and answered in short:
        message = {**message, "tool_call_id": short[answered]}
    if isinstance(calls, list):
        message = {**message, "tool_calls": [_with_short_id(call, short) for call in calls]}
    return message


def _with_short_id(call: object, short: dict[str, str]) -> object:
    id = call.get("id") if isinstance(call, dict) else None
    return (
        {**call, "id": short[id]} if isinstance(call, dict) and isinstance(id, str) and id in short else call
    )
