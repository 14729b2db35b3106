"""Writes the log without ever waiting for whoever reads it."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import select
import time
from contextlib import nullcontext
from typing import TextIO

log = logging.getLogger("orchestrator.log")

_AT_MOST = 1_048_576
_PIECE = 4096  # PIPE_BUF: a pipe that is ready takes as much without blocking, pipe(7)
_RETRY_SECONDS = 0.05
_CLOSE_SECONDS = 1.0


class LineHandler(logging.Handler):
    """Writes lines to a stream. In an event loop, the lines of one iteration share a single write.

    A pipe whose reader has stopped fills up, and a write to it would block the whole server. So nothing is
    written until the stream is ready, and lines beyond `limit` characters in memory are dropped.

    Attributes:
        dropped: the number of lines that were dropped.
    """

    def __init__(self, stream: TextIO, limit: int = _AT_MOST) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._limit = limit
        self._lines: list[str] = []
        self._size = 0
        self._rest = b""
        self._retrying = False
        self._reported = 0
        self._file = _file_of(stream)
        self._ready = select.poll()
        if self._file is not None:
            self._ready.register(self._file, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._size > self._limit and not self._retrying:
                self.flush()
            if self._size > self._limit:
                self.dropped += 1
                return
            line = self.format(record) + "\n"
            self._lines.append(line)
            self._size += len(line)
            if len(self._lines) == 1 and not self._retrying:
                self._flush_soon()
        except Exception:  # noqa: BLE001 (as logging does: a failing log must not fail the request)
            self.handleError(record)

    def flush(self) -> None:
        """Writes as much as the stream takes now."""
        self._flush(0.0)

    def close(self) -> None:
        """Gives the reader a moment to take the last lines."""
        self._flush(_CLOSE_SECONDS)
        super().close()

    def _flush(self, seconds: float) -> None:
        with self.lock or nullcontext():
            text, self._lines = "".join(self._lines), []
            if self._file is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._rest = self._written(self._file, self._rest + text.encode(errors="replace"), seconds)
            self._size = len(self._rest)
            self._retrying = bool(self._rest) and self._flush_later()
            lost = self.dropped - self._reported
            if lost and not self._rest:
                self._reported = self.dropped
                log.warning(
                    "log lines were dropped because nobody read them", extra={"fields": {"lines": lost}}
                )

    def _written(self, file: int, data: bytes, seconds: float) -> bytes:
        """Writes what the file takes within some seconds, and returns the rest."""
        end = time.monotonic() + seconds
        position = 0
        try:
            while position < len(data) and self._ready.poll(max(end - time.monotonic(), 0.0) * 1000):
                position += os.write(file, data[position : position + _PIECE])
        except BlockingIOError:  # someone else has made the file non-blocking
            pass
        except OSError:  # nobody will ever read it
            self.dropped += data.count(b"\n", position)
            return b""
        return data[position:]

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread, or no loop yet
            self.flush()
        else:
            loop.call_soon(self.flush)

    def _flush_later(self) -> bool:
        """Returns whether the rest will be written later; if not, the next line tries again."""
        try:
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.flush)
        except RuntimeError:  # a thread
            return False
        return True


def _file_of(stream: TextIO) -> int | None:
    """Returns the file descriptor of a stream, None if it is in memory."""
    try:
        return stream.fileno()
    except (OSError, io.UnsupportedOperation):
        return None


def dropped_lines() -> int:
    """Returns the number of lines that the process could not write."""
    return sum(one.dropped for one in logging.getLogger().handlers if isinstance(one, LineHandler))
