"""Stored responses, as the routes need them. Stores block, so this calls them in threads."""

from __future__ import annotations

import asyncio
import logging
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from ...errors import ApiError, InvalidRequest, NotFound, ServiceError
from ...protocol import JsonObject
from ...settings import RESPONSES_IN_MEMORY
from .dynamodb import DynamoStore
from .output import new_id
from .store import SqliteStore, Store, StoreFailed

log = logging.getLogger("orchestrator.responses")

_ID = re.compile(r"resp_[A-Za-z0-9]{1,64}")
_MOST_BYTES = 8_388_608  # of JSON, which is the default limit of a request's body too
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}

Result = TypeVar("Result")


@dataclass(slots=True)
class Stored:
    """A stored response.

    Attributes:
        response: the response.
        items: its whole input, with that of the responses before it.
        size: the size of both as JSON.
    """

    response: JsonObject
    items: list[JsonObject]
    size: int

    @property
    def history(self) -> list[JsonObject]:
        """The input of a response that follows this one, before its own."""
        return [*self.items, *self.response["output"]]


class Archive:
    """Responses by id and owner."""

    def __init__(self, store: Store | None) -> None:
        self._store = store

    @property
    def is_open(self) -> bool:
        """Whether responses can be stored."""
        return self._store is not None

    async def find(self, id: str, owner: str, *, param: str = "response_id") -> Stored:
        """Returns a stored response.

        Raises:
            NotFound: the owner has no response with this id. ServiceError: the store failed.
        """
        store = self._checked(id, param)
        body = await _in_thread(lambda: store.get(id, owner))
        if body is None:
            raise _unknown(id, param)
        data = zlib.decompress(body)
        value = orjson.loads(data)
        return Stored(value["response"], value["items"], len(data))

    async def delete(self, id: str, owner: str) -> None:
        """Deletes a response.

        Raises:
            NotFound: the owner has no response with this id. ServiceError: the store failed.
        """
        store = self._checked(id, "response_id")
        if not await _in_thread(lambda: store.delete(id, owner)):
            raise _unknown(id, "response_id")

    async def keep(self, response: JsonObject, items: list[JsonObject], owner: str) -> bool:
        """Stores a response that has ended. Returns whether that worked: the answer does not depend on it."""
        store = self._store
        if store is None:
            return False
        try:
            data = orjson.dumps({"response": response, "items": items})
            if len(data) > _MOST_BYTES:
                raise StoreFailed(f"the response and its input have {len(data):,} bytes")
            await _in_thread(lambda: store.put(response["id"], owner, zlib.compress(data, 1)))
        except (StoreFailed, ApiError, TypeError) as error:
            log.warning("a response could not be stored", extra={"fields": {"reason": str(error)}})
            return False
        return True

    def check_size(self, items: list[JsonObject]) -> None:
        """
        Raises:
            InvalidRequest: the input alone is too large to be stored.
        """
        try:
            size = len(orjson.dumps(items))
        except TypeError as error:
            raise InvalidRequest(f"input cannot be stored: {error}", param="input") from None
        if size > _MOST_BYTES // 2:
            raise InvalidRequest(
                f"input has {size:,} bytes of JSON with the responses before it, and at most "
                f"{_MOST_BYTES // 2:,} can be stored: send store: false, or start a new conversation",
                param="store",
            )

    async def close(self) -> None:
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    def _checked(self, id: str, param: str) -> Store:
        if self._store is None or not _ID.fullmatch(id):
            raise _unknown(id, param)
        return self._store


def open_store(setting: str, *, seconds: int, limit: int) -> Store | None:
    """Returns the store that `RESPONSES_STORE` names, which is opened when it is first used."""
    if setting == "none":
        return None
    kind, _, place = setting.partition("://")
    if kind == "dynamodb":
        return DynamoStore(place, seconds=seconds)
    path = ":memory:" if setting == RESPONSES_IN_MEMORY else place
    return SqliteStore(path, seconds=seconds, limit=limit)


def input_items(given: str | list[Any]) -> list[Any]:
    """Returns a request's input as items with ids, as they are stored and listed."""
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": given}]
    return [_complete(item) if isinstance(item, dict) else item for item in given]


def _complete(item: JsonObject) -> JsonObject:
    kind = item.get("type") or "message"
    item = {**item, "type": kind, "id": item.get("id") or new_id(_PREFIXES.get(kind, "item"))}
    if kind != "message":
        return item if kind == "mcp_approval_response" else {"status": "completed", **item}
    if isinstance(item.get("content"), str):
        by_model = item.get("role") == "assistant"
        part = {"type": "output_text" if by_model else "input_text", "text": item["content"]}
        item["content"] = [{**part, "annotations": []} if by_model else part]
    return {"status": "completed", **item}


async def _in_thread(call: Callable[[], Result]) -> Result:
    try:
        return await asyncio.to_thread(call)
    except StoreFailed as error:
        log.warning("the store of responses failed", extra={"fields": {"reason": str(error)}})
        raise ServiceError(
            "The store of responses does not answer. Try again in a few seconds.",
            status=503,
            code="store_unavailable",
            headers={"retry-after": "5"},
        ) from None


def _unknown(id: str, param: str) -> NotFound:
    return NotFound(f"Response {id[:80]!r} was not found", param=param, code="response_not_found")
