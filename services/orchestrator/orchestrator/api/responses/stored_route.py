"""GET and DELETE /v1/responses/{id}, and GET /v1/responses/{id}/input_items."""

from __future__ import annotations

from urllib.parse import parse_qs

from ...errors import CallerError, InvalidRequest
from ...protocol import JsonObject, dumps
from ..reply import Reply
from ..request import Request
from .archive import Archive

_START = "/v1/responses/"
_ITEMS = "/input_items"
_MOST_ITEMS = 100


class StoredResponses:
    """Handles the routes. A stored response is visible to its key alone."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def __call__(self, request: Request, reply: Reply) -> None:
        path = request.head.path.decode("latin-1").rstrip("/")
        id = path[path.index(_START) + len(_START) :] if _START in path else ""
        owner = request.record.key_name
        if not self._archive.is_open:
            raise InvalidRequest(
                "This server stores no responses (RESPONSES_STORE): keep what you received", code="not_stored"
            )
        lists = id.endswith(_ITEMS)
        if request.head.method == b"DELETE":
            if lists:
                raise CallerError(
                    "DELETE is not allowed on input_items", status=405, headers={"allow": "GET"}
                )
            await self._archive.delete(id, owner)
            answer: JsonObject = {"id": id, "object": "response", "deleted": True}
        else:
            stored = await self._archive.find(id.removesuffix(_ITEMS), owner)
            answer = _page(stored.items, request.head.query) if lists else stored.response
        reply.whole(200, dumps(answer))


def _page(items: list[JsonObject], query: bytes) -> JsonObject:
    """Returns one page of a response's input, the last items first unless `order=asc`."""
    given = parse_qs(query.decode("latin-1"))
    order, limit = given.get("order", ["desc"])[-1], given.get("limit", ["20"])[-1]
    if order not in ("asc", "desc"):
        raise InvalidRequest(f"order must be asc or desc, not {order[:40]!r}", param="order")
    if not limit.isdecimal() or not 1 <= int(limit[:4]) <= _MOST_ITEMS:
        raise InvalidRequest(f"limit must be 1 to {_MOST_ITEMS}, not {limit[:40]!r}", param="limit")
    ordered = items if order == "asc" else items[::-1]
    after = given.get("after", [None])[-1]
    if after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"after={after[:80]!r} is not the id of an input item", param="after")
        ordered = ordered[places[0] + 1 :]
    page = ordered[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(page) < len(ordered),
    }
