"""Decodes compressed request bodies, within limits: a few bytes can become gigabytes."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from ..errors import InvalidRequest
from .body import too_large
from .head import Head

if TYPE_CHECKING:
    from brotli import Decompressor

_INPUT_BYTES = 65_536
_OUTPUT_BYTES = 1_048_576
# Empty frames cost more time than their bytes are worth.
_MAX_FRAMES = 64
# The window, and so the memory, that every decoder must support (RFC 8878, 3.1.1.1.2).
_ZSTD_WINDOW_LOG = 23


class _Decoder(Protocol):
    """One frame. The interface of compression.zstd.ZstdDecompressor."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """gzip or zlib."""

    def __init__(self, window_bits: int) -> None:
        self._decoder = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        self.needs_input = not self._decoder.unconsumed_tail and len(content) < max_length
        return content


class _Brotli:
    def __init__(self, decoder: Decompressor) -> None:
        self._decoder = decoder
        self.needs_input = True
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._decoder.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content: bytes = self._decoder.process(data, output_buffer_limit=max_length)
        self.needs_input = self._decoder.can_accept_more_data() and len(content) < max_length
        return content


_Codec = tuple[Callable[[], _Decoder], type[Exception]]
"""Creates decoders of one coding, and what they raise if the data is invalid."""


def _codec(coding: bytes) -> _Codec:
    if coding in (b"gzip", b"x-gzip"):
        return lambda: _Zlib(zlib.MAX_WBITS | 16), zlib.error
    if coding == b"deflate":
        return lambda: _Zlib(zlib.MAX_WBITS), zlib.error
    if coding == b"zstd":
        return _zstd()
    import brotli  # saves memory in a server whose clients do not use it, as in `_zstd`

    return lambda: _Brotli(brotli.Decompressor()), brotli.error


def _zstd() -> _Codec:
    if sys.version_info >= (3, 14):
        from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
    else:
        from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

    window = DecompressionParameter.window_log_max
    return lambda: ZstdDecompressor(options={window: _ZSTD_WINDOW_LOG}), ZstdError


CODINGS = (b"gzip", b"deflate", b"br", b"zstd")


def coding_of(head: Head) -> bytes:
    """Returns the Content-Encoding of a request, `b""` if its body is not encoded.

    Raises:
        InvalidRequest: status 415, with the supported codings in Accept-Encoding.
    """
    coding = head.headers.get(b"content-encoding", b"").strip(b" \t").lower()
    if coding in (b"", b"identity"):
        return b""
    if coding not in (*CODINGS, b"x-gzip"):
        supported = b", ".join(CODINGS).decode()
        raise InvalidRequest(
            f"Content-Encoding {coding[:40].decode('latin-1')!r} is not supported; use one of {supported}, "
            "or send the body as it is.",
            status=415,
            code="unsupported_content_encoding",
            headers={"accept-encoding": supported},
        )
    return coding


def decoded(body: bytes, coding: bytes, limit: int) -> Iterator[bytes]:
    """Yields the decoded body in parts of at most two megabytes.

    Raises:
        InvalidRequest: the body is not in this coding, is incomplete, or is larger than `limit` bytes.
    """
    size = 0
    new_decoder, invalid = _codec(coding)
    try:
        for part in _parts(body, coding, new_decoder):
            size += len(part)
            if size > limit:
                raise too_large(size, limit)
            yield part
    except invalid as error:
        raise _invalid(coding, str(error)) from None


def _parts(body: bytes, coding: bytes, new_decoder: Callable[[], _Decoder]) -> Iterator[bytes]:
    decoder, frames = new_decoder(), 1
    for start in range(0, len(body), _INPUT_BYTES):
        data = body[start : start + _INPUT_BYTES]
        while data or not decoder.needs_input:
            if decoder.eof:
                frames += 1
                if frames > _MAX_FRAMES:
                    raise _invalid(coding, f"it has more than {_MAX_FRAMES} frames")
                decoder = new_decoder()
            yield decoder.decompress(data, _OUTPUT_BYTES)
            data = decoder.unused_data
            if decoder.eof and not data:
                break
    if not decoder.eof:
        raise _invalid(coding, "it ends too early")


def _invalid(coding: bytes, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"The request body is not valid {coding.decode()}: {reason}. Is Content-Encoding right?",
        code="invalid_content_encoding",
    )
