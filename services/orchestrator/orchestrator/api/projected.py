"""Runs the tool loop for the APIs whose answers are another view of a chat: Responses and Messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from ..chat.conversation import Ending, Event
from ..chat.loop import ChatLoop
from ..chat.tool_plan import ToolPlan
from ..errors import EngineFailed
from ..protocol import JsonObject, dumps
from .error_format import ErrorFormat
from .reply import Reply
from .request import Request


class Projection(ErrorFormat, Protocol):
    """Turns the loop's events into those of another API, and folds them into a whole answer."""

    def project(self, item: Event) -> list[JsonObject]:
        """Returns the API's events for an event of the loop."""

    @property
    def answer(self) -> JsonObject:
        """The whole answer, complete once the loop has ended."""


def encode(events: list[JsonObject]) -> bytes:
    """Returns events whose name is their `type`, as both APIs frame them."""
    return b"".join([b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event)) for event in events])


def give_hints(hints: Sequence[str], request: Request, reply: Reply) -> None:
    """Writes what the client probably did not mean to a header and to the log."""
    if hints:
        request.record.hints = hints
        reply.add_header(b"x-tool-hint", "; ".join(hints))


async def answer(
    loop: ChatLoop,
    plan: ToolPlan,
    projection: Projection,
    request: Request,
    reply: Reply,
    *,
    stream: bool,
    before_end: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Runs the loop and writes its answer, as a stream or whole.

    Args:
        before_end: is called when the answer is complete, before the client sees its end.

    Raises:
        ApiError: the engine rejected the request, failed or did not come up.
    """
    request.body = b""  # the plan has its content
    if stream:
        request.record.stream = True
        reply.errors = projection
        reply.expect_stream()

    async def emit(items: list[Event]) -> None:
        events = [event for item in items for event in projection.project(item)]
        if before_end and any(isinstance(item, Ending) for item in items):
            await before_end()
        if stream and events:
            await reply.write(_encoded(encode, events))

    await loop.run(plan, request.record, emit)
    if not stream:
        reply.whole(200, _encoded(dumps, projection.answer))


def _encoded(encoder: Callable[[Any], bytes], value: Any) -> bytes:
    try:
        return encoder(value)
    except ValueError as error:
        raise EngineFailed(
            f"The engine's answer cannot be passed on, because it is nested too deeply: {error}"
        ) from None
