"""Carries the server's tool calls and their results in the id of a client's call.

An answer that ends with calls for the client ends the request, and the next one contains what the client
echoes: its own calls under their ids, and their results. The calls that the server ran would be lost. So the
id of the client's first call contains them, and they are put back into the history when the id returns. The
client need not know, and no server keeps anything.
"""

from __future__ import annotations

import base64
import itertools
import uuid
from collections.abc import Iterator, Sequence

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


def carry(id: str, rounds: Sequence[Round]) -> str:
    """Returns an id for a call that also contains the calls that the server ran before it.

    If they exceed 64 KiB, each result is truncated to an equal share.
    """
    return f"{id}{MARK}{_encode(rounds)}" if rounds else id


def new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def plain_id(id: str) -> str:
    """Returns the id that an engine gave to a call, changed if it looks as if it carried something."""
    return id.replace(MARK, "_")


def restore(messages: list[JsonObject]) -> list[JsonObject] | None:
    """Returns the history with the calls that its ids carry, each round before the message with the id.

    Returns None if no id carries anything. An id that cannot be read, since a client cut it, stays as it is.

    Raises:
        InvalidRequest: the ids carry more calls than any answer has.
    """
    if not any("tool_calls" in message for message in messages):
        return None
    restored: list[JsonObject] = []
    short: dict[str, str] = {}
    room = _MAX_CALLS
    for message in messages:
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and isinstance(calls, list):
            for call in calls:
                id = call.get("id") if isinstance(call, dict) else None
                if isinstance(id, str) and MARK in id and (rounds := _decode(id)):
                    room -= sum(map(len, rounds))
                    if room < 0:
                        raise InvalidRequest(
                            f"The ids of the tool calls in messages carry more than {_MAX_CALLS:,} calls "
                            "of the server's tools: shorten the history",
                            param="messages",
                        )
                    short[id] = id.partition(MARK)[0]
                    restored += _history(short[id], rounds)
        restored.append(message)
    return [_with_short_ids(message, short) for message in restored] if short else None


def _encode(rounds: Sequence[Round]) -> str:
    encoded = orjson.dumps(rounds)
    if len(encoded) > _MAX_BYTES:
        share = _MAX_BYTES // (2 * sum(map(len, rounds)))
        kept = [[_shortened(call, share) for call in one] for one in rounds]
        while len(encoded := orjson.dumps(kept)) > _MOST_BYTES:
            del kept[0]
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def _shortened(call: CarriedCall, share: int) -> CarriedCall:
    name, arguments, result = call
    if len(arguments.encode()) > share:
        arguments = _ARGUMENTS_LEFT_OUT
    return name, arguments, render(result, share)


def _decode(id: str) -> list[list[list[str]]] | None:
    """Returns the rounds that an id carries, None if it cannot be read."""
    text = id.partition(MARK)[2]
    if len(text) > 2 * _MOST_BYTES:
        return None
    try:
        rounds = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except ValueError:
        return None
    well_formed = isinstance(rounds, list) and all(
        isinstance(one, list) and one and all(_is_call(call) for call in one) for one in rounds
    )
    return rounds if well_formed else None


def _is_call(call: object) -> bool:
    return isinstance(call, list) and len(call) == 3 and all(isinstance(part, str) for part in call)


def _history(id: str, rounds: Sequence[Sequence[Sequence[str]]]) -> Iterator[JsonObject]:
    """Yields the messages of these rounds. The ids are always the same, so that engines find their prefix."""
    numbers = itertools.count(1)
    for one in rounds:
        named = [(f"{id}-{next(numbers)}", *call) for call in one]
        yield {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": its, "type": "function", "function": {"name": name, "arguments": arguments}}
                for its, name, arguments, _ in named
            ],
        }
        for its, _, _, result in named:
            yield {"role": "tool", "tool_call_id": its, "content": result}


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
