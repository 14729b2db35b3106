"""The plain relay: passes the engine's bytes on to the client."""

from __future__ import annotations

from ..engine.answer import MODEL_AT_MOST
from ..engine.client import Engines
from ..errors import EngineFailed
from ..protocol import JsonObject, dumps, exact
from .reply import Reply
from .request import Request

_ASK_FOR_USAGE = b'"stream_options":{"include_usage":true},'


class Relay:
    """Relays requests to the engine. It is also the handler of routes that are only relayed.

    Args:
        usage_on_request: whether the route's streams report usage only if `stream_options` requests it.
        path: the engine's path, if it is not the route.
    """

    def __init__(self, engines: Engines, *, usage_on_request: bool, path: str | None = None) -> None:
        self._engines = engines
        self._path = path
        self._usage_on_request = usage_on_request

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        await self.forward(request, reply, payload, request.body)

    async def forward(self, request: Request, reply: Reply, payload: JsonObject, body: bytes) -> None:
        """Sends `body`, which encodes `payload`, to the engine and the engine's answer to the client.

        Raises:
            ApiError: the engine rejected the request, failed or did not come up.
        """
        record = request.record
        stream = record.stream = payload.get("stream") is True
        hide_usage = False
        if stream:
            reply.expect_stream()
            options = payload.get("stream_options")
            if self._usage_on_request and not (isinstance(options, dict) and options.get("include_usage")):
                body = _asking_for_usage(payload, body)
                hide_usage = True
        content_type = request.content_type
        prefix = None if content_type else self._engines.prefix_of(payload)  # files have none in common
        path = self._path or request.path
        with await self._engines.ask(
            path, body, record, whole=not stream, prefix=prefix, content_type=content_type
        ) as answer:
            record.saw_first_token()
            # The engine has accepted the name. A stream that is cut off may not have repeated it.
            record.model = str(payload.get("model") or "-")[:MODEL_AT_MOST]
            payload.clear()  # nobody needs it any longer, and a stream may last for minutes
            del body
            request.free()
            saw = record.saw_answer if record.traced else None
            try:
                if answer.is_stream:
                    while events := await answer.events(hide_usage=hide_usage):
                        record.events += events.count(b"\n\n")
                        if saw:
                            saw(events)
                        await reply.write(events)
                elif reply.started:
                    raise EngineFailed("The engine answered a streaming request without a stream")
                else:
                    headers = [(b"location", answer.location)] if answer.location else ()
                    whole = await answer.body()
                    record.saw_answer(whole)
                    reply.whole(answer.status, whole, answer.content_type, headers)
            finally:
                if answer.model != "-":
                    record.model = answer.model
                record.count_tokens(answer.usage)


def _asking_for_usage(payload: JsonObject, body: bytes) -> bytes:
    options = payload.get("stream_options")
    if "stream_options" not in payload:
        # Inserted into the bytes, since encoding a long history again costs more than the whole relay.
        start = body.index(b"{") + 1
        return body[:start] + _ASK_FOR_USAGE + body[start:]
    if options is not None and not isinstance(options, dict):
        return body  # the engine reports the error
    kept = {key: value for key, value in (options or {}).items() if key != "continuous_usage_stats"}
    return dumps({**exact(payload, body), "stream_options": {**kept, "include_usage": True}})
