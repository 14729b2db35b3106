"""The plain relay: the engine's bytes in, the same bytes out."""

from __future__ import annotations

import orjson

from ..engine.address import Answer
from ..engine.client import Engines
from ..errors import ApiError, EngineFailed, engine_error
from ..protocol import DONE, EventBuffer, JsonObject, parse_object, payloads
from ..telemetry import Record
from .endpoint import Request
from .reply import Reply

_ASK_FOR_USAGE = b'"stream_options":{"include_usage":true},'


class Relay:
    """Relays a route to the engine. Also the handler of the routes that are only relayed."""

    def __init__(self, engines: Engines, *, usage_on_request: bool) -> None:
        self._engines = engines
        self._usage_on_request = usage_on_request

    async def __call__(self, request: Request, reply: Reply) -> None:
        await self.forward(request, reply, parse_object(request.body), request.body)

    async def forward(self, request: Request, reply: Reply, payload: JsonObject, body: bytes) -> None:
        """Sends `body`, which holds `payload`, to the engine, and its answer to the client.

        Raises:
            ApiError: the engine refused, failed or did not come up.
        """
        stream = request.record.stream = payload.get("stream") is True
        hide_usage = False
        if stream:
            reply.expect_stream()
            options = payload.get("stream_options")
            if self._usage_on_request and not (isinstance(options, dict) and options.get("include_usage")):
                body = _asking_for_usage(payload, body)
                hide_usage = True
        with await self._engines.ask(
            request.path, body, request_id=request.record.request_id, whole=not stream
        ) as answer:
            request.record.saw_first_token()
            if answer.status >= 400:
                raise engine_error(answer.status, await answer.read(), answer.retry_after)
            if answer.is_stream:
                await self._relay_stream(answer, reply, request.record, hide_usage=hide_usage)
            elif reply.started:
                raise EngineFailed("The engine answered a streaming request without a stream")
            else:
                content = await answer.read()
                if b'"usage"' in content:
                    _count(orjson.loads(content), request.record)
                reply.whole(answer.status, content, answer.content_type)

    async def _relay_stream(self, answer: Answer, reply: Reply, record: Record, *, hide_usage: bool) -> None:
        """One send for all whole events of one read; only those that tell usage or an error are parsed."""
        buffer = EventBuffer()
        done = not self._usage_on_request
        while piece := await answer.read():
            try:
                block = buffer.feed(piece)
            except ValueError as error:
                raise EngineFailed(f"The engine's stream cannot be read: {error}") from None
            failure = None
            if b'"usage":' in block or b'data: {"error"' in block:
                block, failure = _inspect(block, record, hide_usage=hide_usage)
            if block:
                done = done or block.endswith(DONE)
                await reply.write(block)
            if failure:
                raise failure
        if not done or not buffer.empty:
            raise EngineFailed("The engine's stream ended before it was complete")
        reply.end()


def _asking_for_usage(payload: JsonObject, body: bytes) -> bytes:
    options = payload.get("stream_options")
    if "stream_options" not in payload:
        # Spliced in, since writing the body anew costs more than the whole relay for a long history.
        start = body.index(b"{") + 1
        return body[:start] + _ASK_FOR_USAGE + body[start:]
    if options is not None and not isinstance(options, dict):
        return body  # the engine says what is wrong with it
    kept = {key: value for key, value in (options or {}).items() if key != "continuous_usage_stats"}
    return orjson.dumps({**payload, "stream_options": {**kept, "include_usage": True}})


def _inspect(block: bytes, record: Record, *, hide_usage: bool) -> tuple[bytes, ApiError | None]:
    """Counts the usage in a block of events, and leaves it out where the client did not ask for it.

    Where the engine told of an error, gives the events before it, and that.
    """
    kept = []
    failure = None
    for raw in block[:-2].split(b"\n\n"):
        if b'"usage":' in raw or raw.startswith(b'data: {"error"'):
            chunk = orjson.loads(next(payloads(raw), b"{}"))
            if chunk.get("error"):
                failure = EngineFailed(f"The engine failed: {_message(chunk['error'])}")
                break
            usage_only = chunk.get("choices") == []
            if usage_only or "response" in chunk:
                _count(chunk.get("response") or chunk, record)
            if usage_only and hide_usage:
                continue
        kept.append(raw)
    return b"\n\n".join([*kept, b""]), failure


def _count(told: JsonObject, record: Record) -> None:
    record.model = str(told.get("model", "-"))
    record.count_tokens(told.get("usage"))


def _message(error: object) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)
