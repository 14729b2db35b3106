"""Reads request bodies and finds where they end."""

from __future__ import annotations

import re

from ..errors import ApiError, InvalidRequest
from .head import Head, bad_request

_LINE_BYTES = 256
# A chunk takes 2 µs, so that 8 MiB in chunks of one byte would take 18 s.
_CHUNKS = 16_384
_BYTES_PER_CHUNK = 128
_TRAILER_BYTES = 8192
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")


def too_large(size: int, limit: int) -> ApiError:
    return InvalidRequest(
        f"The request body has at least {size} bytes; at most {limit} are accepted here "
        "(MAX_BODY_BYTES on POST routes). Send a smaller one.",
        status=413,
        code="request_too_large",
    )


class Body:
    """A body with a known length.

    Attributes:
        whole: whether all of it has arrived.
    """

    __slots__ = ("_left", "_parts", "whole")

    def __init__(self, size: int) -> None:
        self._left = size
        self._parts: list[bytes] = []
        self.whole = size == 0

    @property
    def content(self) -> bytes:
        """The whole body. It can be read only once."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def feed(self, data: bytes, start: int = 0) -> int:
        """Takes the body's part of `data[start:]` and returns the position after it."""
        end = start + self._left
        part = data[start:end]
        if part:
            self._parts.append(part)
            self._left -= len(part)
            self.whole = not self._left
        return start + len(part)


class ChunkedBody:
    """A chunked body. Chunk extensions and trailers are ignored.

    It is stricter than RFC 9112 where a proxy might interpret the bytes differently: lines must end with
    CR LF, and a size has at most eight digits.
    """

    __slots__ = ("_chunks", "_content", "_left", "_limit", "_line", "_read", "_trailer_bytes", "whole")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()
        self._chunks = 0
        self._line = b""
        self._left = 0
        self._trailer_bytes = 0
        self._read = ChunkedBody._read_size  # a bound method would create a reference cycle
        self.whole = False

    @property
    def content(self) -> bytes:
        """The whole body. It can be read only once."""
        content, self._content = bytes(self._content), bytearray()
        return content

    def feed(self, data: bytes, start: int = 0) -> int:
        """Takes the body's part of `data[start:]` and returns the position after it.

        Raises:
            InvalidRequest: the chunks are invalid, or the body exceeds the limit.
        """
        while start < len(data) and not self.whole:
            start = self._read(self, data, start)
        return start

    def _read_size(self, data: bytes, start: int) -> int:
        line, start = self._read_line(data, start)
        if line is not None:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise bad_request(f"invalid chunk size: {line[:40]!r}")
            self._left = int(match[1], 16)
            if len(self._content) + self._left > self._limit:
                raise too_large(len(self._content) + self._left, self._limit)
            self._chunks += 1
            if self._chunks > _CHUNKS + len(self._content) // _BYTES_PER_CHUNK:
                raise bad_request(
                    f"{self._chunks:,} chunks have only {len(self._content):,} bytes; send larger chunks"
                )
            self._read = ChunkedBody._read_data if self._left else ChunkedBody._read_trailer
        return start

    def _read_data(self, data: bytes, start: int) -> int:
        part = data[start : start + self._left]
        self._content += part
        self._left -= len(part)
        if not self._left:
            self._read = ChunkedBody._read_data_end
        return start + len(part)

    def _read_data_end(self, data: bytes, start: int) -> int:
        line, start = self._read_line(data, start)
        if line is not None:
            if line:
                raise bad_request("a chunk is longer than its size")
            self._read = ChunkedBody._read_size
        return start

    def _read_trailer(self, data: bytes, start: int) -> int:
        line, start = self._read_line(data, start)
        if line is not None:
            self._trailer_bytes += len(line)
            if line and not _TRAILER_LINE.fullmatch(line):
                raise bad_request(f"invalid trailer field: {line[:40]!r}")
            if self._trailer_bytes > _TRAILER_BYTES:
                raise bad_request(f"the trailers have more than {_TRAILER_BYTES} bytes")
            self.whole = not line
        return start

    def _read_line(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        """Returns the next line, or None if it is incomplete, and the position after it."""
        longest = _TRAILER_BYTES if self._read is ChunkedBody._read_trailer else _LINE_BYTES
        end = data.find(b"\n", start, start + longest + 3)
        line = self._line + data[start : end + 1 if end >= 0 else start + longest + 3]
        if len(line) > longest + 2:
            raise bad_request(f"a line between chunks has more than {longest} bytes")
        if end < 0:
            self._line = line
            return None, len(data)
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise bad_request("a line between chunks does not end with CR LF")
        return line[:-2], end + 1


def body_of(head: Head, limit: int) -> Body | ChunkedBody:
    """Returns an empty body of the kind that the head announces.

    Raises:
        InvalidRequest: the head announces it in a way that is not supported.
    """
    coding = head.headers.get(b"transfer-encoding")
    if coding is not None:
        if not head.http_1_1 or b"content-length" in head.headers:
            raise bad_request("transfer-encoding is used with HTTP/1.0 or together with content-length")
        if coding.strip(b" \t").lower() != b"chunked":
            raise InvalidRequest(
                f"Transfer-Encoding {coding[:40].decode('latin-1')!r} is not supported; use chunked.",
                status=501,
                code="unsupported_transfer_encoding",
            )
        return ChunkedBody(limit)
    length = head.headers.get(b"content-length")
    if length is None:
        return Body(0)
    length = length.strip(b" \t")
    if not _DIGITS.fullmatch(length):
        raise bad_request(f"content-length is not a number: {length[:40]!r}")
    return Body(int(length))
