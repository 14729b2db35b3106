"""An engine's answer to one request. Only this module reads answers and raises the errors in them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson

from ..errors import (
    ApiError,
    EngineBroke,
    EngineFailed,
    EngineRejected,
    EngineUnavailable,
    InvalidRequest,
    NotFound,
)
from ..protocol import DONE, EventBuffer, JsonObject, loads, payloads, without_lists
from .address import Address, Response
from .event_check import EventCheck

_ENDS = {
    "/v1/responses": frozenset({"response.completed", "response.failed", "response.incomplete", "error"}),
    "/v1/messages": frozenset({"message_stop"}),
}
"""The types of the events that end the streams of these routes. All other streams end with `[DONE]`."""

_BINARY_ROUTES = frozenset({"/v1/embeddings", "/pooling"})
"""Routes whose whole answers need not be JSON: vLLM's `encoding_format: bytes`."""

_MARKS = (b'"usage"', b'"error"', b"[DONE]")
"""Marks of events that matter to the orchestrator itself."""

_LIST_IN_USAGE = b'_per_turn"'
"""vLLM's `input_tokens_per_turn` and its like (vllm/entrypoints/openai/responses/protocol.py)."""

_DRAIN_SECONDS = 1.0
MODEL_AT_MOST = 256  # characters of a model's name, which becomes a label of metrics


class Answer:
    """An answer with a status below 400. Use it as a context manager, which returns its connection.

    Read it with `body` (whole), `events` (a stream, as bytes) or `chunks` (either, parsed). These return
    everything that came before an error, and then raise one of:

    - EngineRejected: the engine reported an error with a 4xx code.
    - EngineFailed: the engine reported another error or sent something unreadable.
    - EngineBroke: the answer ended before it was complete.

    Attributes:
        address: the address of the engine that answers.
        is_stream: whether the answer is an event stream.
        status, content_type: status and content type of the response.
        location: where a redirect leads; without the origin if that is the engine's own. Initially empty.
        model, usage: what has been read so far; initially `-` and empty.
    """

    __slots__ = (
        "_buffer", "_check", "_done", "_failure", "_path", "_response", "address",
        "content_type", "is_stream", "location", "model", "status", "usage",
    )  # fmt: skip

    def __init__(self, address: Address, response: Response, path: str) -> None:
        self.address = address
        self.is_stream = response.is_stream
        self.status = response.status
        self.content_type = response.content_type
        self.location = response.location and address.without_origin(response.location)
        self.model = "-"
        self.usage: JsonObject = {}
        self._response = response
        if self.is_stream:
            self._buffer = EventBuffer()
            self._check = EventCheck()
        self._path = path
        self._done = False
        self._failure: ApiError | None = None

    async def body(self) -> bytes:
        """Returns the bytes of a whole answer: JSON, unless it is a redirect or its route has binary ones."""
        content = await self._response.read()
        if self.status >= 300:
            return content
        if self._path in _BINARY_ROUTES and self.content_type.startswith(b"application/octet-stream"):
            if not self._response.framed:
                raise EngineBroke("The engine's binary answer has no length, so it may be incomplete")
            return content
        return self._shown(self._parse(content), content)

    async def chunks(self) -> list[JsonObject]:
        """Returns the chunks that have arrived since the last call, or an empty list at the end.

        A whole answer is a single chunk.
        """
        if not self.is_stream:
            if self._done:
                return []
            self._done = True
            if self.status >= 300:
                raise EngineFailed(
                    f"The engine redirected the request to {self.location.decode('latin-1')!r}. "
                    "Set VLLM_URL to the engine itself."
                )
            return [self._parse(await self._response.read(), exact=True)]
        while block := await self._block():
            chunks: list[JsonObject] = []
            try:
                for payload in payloads(block):
                    if payload == b"[DONE]":
                        self._done = True
                        break
                    chunks.append(self._parse(payload))
            except (ApiError, ValueError) as error:
                self._failure = _unreadable(error)
            if chunks:
                return chunks
        return []

    async def events(self, *, hide_usage: bool = False) -> bytes:
        """Returns the events that have arrived since the last call, unchanged, or `b""` at the end.

        The engine's comments are left out: an event of nothing but comments ends the stream of some clients.

        All events are JSON. Only those that may contain usage, an error or the end are read: most do not.

        Args:
            hide_usage: whether to drop events that contain only usage.
        """
        while block := await self._block():
            if self._check.is_similar(block):
                return block  # as the event before, which had none of the marks
            if self._path in _ENDS:
                start = 0
            else:
                marks = [at for mark in _MARKS if (at := block.find(mark)) >= 0]
                # Most of a block need not be read: only the events from the first mark on are split.
                plain = block.rfind(b"\n\n", 0, min(marks)) + 2 if marks else len(block)
                start = plain if plain > 1 else 0
            block = self._checked(block[:start]) + self._examine(block[start:], hide_usage=hide_usage)
            if b"\n:" in block or block.startswith(b":"):
                block = _without_comments(block)
            if b"data:" in block:
                return block
        return b""

    def _checked(self, block: bytes) -> bytes:
        """Returns the events of `block` up to the first one that is not JSON."""
        valid = self._check.valid(block) if block else b""
        if len(valid) < len(block):
            self._failure = EngineFailed(self._check.problem)
        return valid

    def close(self) -> None:
        self._response.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._response.close()

    async def _block(self) -> bytes:
        """Returns the bytes of whole events, or `b""` at the end of a complete stream."""
        if self._failure:
            raise self._failure
        while not self._done:
            piece = await self._response.read()
            if not piece:
                raise EngineBroke("The engine's stream ended before it was complete")
            try:
                block = self._buffer.feed(piece)
            except ValueError as error:
                raise _unreadable(error) from None
            if block:
                return block
        await self._drain()
        return b""

    async def _drain(self) -> None:
        """Reads what follows `[DONE]`, normally just the end of the body, so that the connection is kept."""
        if not self._response.complete:
            with contextlib.suppress(EngineBroke, TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    while await self._response.read():
                        pass

    def _examine(self, block: bytes, *, hide_usage: bool) -> bytes:
        """Returns the part of `block` that the client may see."""
        if not block or self._failure:
            return b""
        kept = []
        for raw in block[:-2].split(b"\n\n"):
            try:
                payload = next(payloads(raw), None)
                chunk = {} if payload is None or payload == b"[DONE]" else self._parse(payload)
                shown = self._shown(chunk, payload) if chunk and payload else b""
            except (ApiError, ValueError, orjson.JSONEncodeError) as error:
                self._failure = _unreadable(error)
                break
            if payload == b"[DONE]":
                kept.append(DONE[:-2])
            elif not (hide_usage and "usage" in chunk and chunk.get("choices") == []):
                kept.append(raw.replace(payload, shown) if payload and shown else raw)
            ends = _ENDS.get(self._path)
            self._done = chunk.get("type") in ends if ends else payload == b"[DONE]"
            if self._done:
                break
        return b"\n\n".join([*kept, b""])

    def _shown(self, chunk: JsonObject, payload: bytes) -> bytes:
        """Returns `payload`, or `chunk` encoded again if its usage has lists, which strict clients reject."""
        if _LIST_IN_USAGE not in payload:
            return payload
        source = chunk["response"] if isinstance(chunk.get("response"), dict) else chunk
        if isinstance(source.get("usage"), dict):
            source["usage"] = without_lists(source["usage"])
        return orjson.dumps(chunk)

    def _parse(self, payload: bytes, *, exact: bool = False) -> JsonObject:
        try:
            chunk: Any = loads(payload) if exact else orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise EngineFailed(f"The engine sent invalid JSON: {error}") from None
        if not isinstance(chunk, dict):
            raise EngineFailed("The engine sent JSON that is not an object")
        # A response object describes its own failure, so it is passed on to the client.
        if chunk.get("error") and chunk.get("object") != "response":
            raise reported_error(chunk["error"])
        inner = chunk.get("response") or chunk.get("message")  # in events of these two routes
        source = inner if isinstance(inner, dict) else chunk
        usage = source.get("usage")
        if isinstance(usage, dict):
            self.usage = without_lists(usage) if _LIST_IN_USAGE in payload else usage
        self.model = str(source.get("model") or self.model)[:MODEL_AT_MOST]
        return chunk


def _without_comments(block: bytes) -> bytes:
    events = [
        b"\n".join([line for line in raw.split(b"\n") if not line.startswith(b":")])
        for raw in block.split(b"\n\n")
    ]
    return b"".join([event + b"\n\n" for event in events if event])


def _unreadable(error: Exception) -> ApiError:
    return (
        error if isinstance(error, ApiError) else EngineFailed(f"The engine's stream cannot be read: {error}")
    )


_STOPPING = "cannot schedule new futures after shutdown"
"""What vLLM 0.32 answers, with status 500, while it is being stopped and finishes older requests: it ends the
executor of its templates first (`AsyncLLM.shutdown` in `vllm/v1/engine/async_llm.py`)."""


def status_error(status: int, body: bytes, retry_after: bytes = b"") -> ApiError:
    """Returns the error for a response with a status of 400 or more, in any of vLLM's error formats."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    fields = value if isinstance(value, dict) else {}
    error = fields.get("error", fields.get("detail"))
    message = error.get("message") if isinstance(error, dict) else error
    text = str(message or body[:200].decode(errors="replace") or "no reason given")
    if status in (401, 403):
        return _key_rejected(text)
    if status == 503 or (status >= 500 and _STOPPING in text):
        seconds = retry_after.decode("latin-1") if retry_after.isdigit() else "5"
        return EngineUnavailable(
            f"The engine cannot take the request now: {text}", headers={"retry-after": seconds}
        )
    if status >= 500:
        return EngineFailed(f"The engine failed with status {status}: {text}")
    if isinstance(error, dict):
        return _rejected(status, error, text, retry_after)
    if status == 404:
        return NotFound("The engine does not serve this route, or does not serve it for this model")
    return InvalidRequest(
        f"The engine rejected the request: {text}", status=status, headers=_retry_header(retry_after)
    )


def reported_error(error: Any) -> ApiError:
    """Returns the error for an error object in an answer with status 200."""
    fields = error if isinstance(error, dict) else {"message": error}
    code, text = fields.get("code"), str(fields.get("message") or "no reason given")
    if code in (401, 403):
        return _key_rejected(text)
    if isinstance(code, int) and 400 <= code < 500:
        return _rejected(code, fields, text)
    return EngineFailed(f"The engine failed: {text}")


def exceeds_context(error: EngineRejected) -> bool:
    """Whether the engine rejected a request because prompt and answer do not fit into the model's context.

    Source: `vllm/renderers/params.py`; the code is OpenAI's.
    """
    if error.error.get("code") == "context_length_exceeded" or error.error.get("param") == "input_tokens":
        return True
    return "context length" in error.message or "max_model_len" in error.message


def _rejected(status: int, error: JsonObject, text: str, retry_after: bytes = b"") -> EngineRejected:
    return EngineRejected(
        status,
        {"type": "invalid_request_error", "param": None, "code": None, **error, "message": text},
        headers=_retry_header(retry_after),
    )


def _retry_header(retry_after: bytes) -> dict[str, str]:
    """Returns the engine's Retry-After, in seconds or a date."""
    return {"retry-after": retry_after.decode("latin-1")} if retry_after else {}


def _key_rejected(text: str) -> EngineFailed:
    return EngineFailed(
        f"The engine rejected the orchestrator's key ({text}). Set VLLM_API_KEY to the engine's key."
    )
