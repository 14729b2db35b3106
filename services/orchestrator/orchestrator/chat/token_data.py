"""Passes on what the engine reports about each token, such as its logprob, exactly once.

The data of a token waits until the text of the token is shown, and is dropped with text that never is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any

from ..protocol import JsonObject

FIELDS = ("logprobs", "token_ids")
"""Fields of a choice with one entry per token. vLLM's other fields describe the whole answer."""


def is_requested(request: JsonObject) -> bool:
    return bool(request.get("logprobs") or request.get("return_token_ids"))


class TokenData:
    """The data of tokens whose text has not been shown yet."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, JsonObject]] = deque()

    def add(self, choice: JsonObject, characters: int) -> None:
        """Adds the data of a choice whose text has this number of characters."""
        data = _data_of(choice)
        if characters or data:
            self._waiting.append((characters, data))

    def take(self, characters: int) -> JsonObject:
        """Returns the data of the tokens that the next `characters` of the text belong to."""
        taken = []
        while self._waiting and (characters > 0 or not self._waiting[0][0]):
            length, data = self._waiting.popleft()
            taken.append(data)
            if length > characters:
                self._waiting.appendleft((length - characters, {}))
            characters -= length
        return merged(taken)

    def take_all(self) -> JsonObject:
        data = merged(data for _, data in self._waiting)
        self._waiting.clear()
        return data

    def drop(self) -> None:
        self._waiting.clear()


def merged(parts: Iterable[JsonObject]) -> JsonObject:
    """Returns the data of consecutive tokens in one object."""
    result: JsonObject = {}
    for part in parts:
        for field, value in part.items():
            if isinstance(value, dict):
                lists = result.setdefault(field, {})
                for name, entries in value.items():
                    lists.setdefault(name, []).extend(entries)
            else:
                result.setdefault(field, []).extend(value)
    return result


def covering(data: JsonObject, text: str) -> JsonObject:
    """Returns the data of the tokens up to the end of `text`, without those of the calls after it.

    The tokens are compared with the text by their bytes. Without those, nothing is returned.
    """
    entries = data.get("logprobs", {}).get("content", [])
    pieces = [_bytes_of(entry) for entry in entries]
    wanted = text.encode()
    found = b"".join(pieces).find(wanted) if wanted else -1
    if found < 0:
        return {}
    ends = itertools.accumulate(map(len, pieces))
    count = 1 + next(index for index, end in enumerate(ends) if end >= found + len(wanted))
    kept: JsonObject = {"logprobs": {"content": entries[:count]}}
    return kept | {field: value[:count] for field, value in data.items() if isinstance(value, list)}


def _data_of(choice: JsonObject) -> JsonObject:
    """Returns the lists of a choice that have an entry per token."""
    data: JsonObject = {}
    logprobs, ids = choice.get("logprobs"), choice.get("token_ids")
    if isinstance(logprobs, dict):
        data["logprobs"] = {name: value for name, value in logprobs.items() if isinstance(value, list)}
    if isinstance(ids, list):
        data["token_ids"] = ids
    return {field: value for field, value in data.items() if value}


def _bytes_of(entry: Any) -> bytes:
    try:
        return bytes(entry["bytes"] or ())
    except (TypeError, KeyError, ValueError):
        return b""
