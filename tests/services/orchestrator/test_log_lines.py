"""The log never blocks the server, whatever its reader does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from orchestrator.log_lines import LineHandler, dropped_lines
from tests.support.live import until

LINE = "x" * 90


class Reader:
    """The other end of the log's pipe."""

    def __init__(self) -> None:
        self.file, writing = os.pipe()
        os.set_blocking(self.file, False)
        self.stream: TextIO = os.fdopen(writing, "w")
        self.text = ""

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.file, 1 << 20):
                self.text += part.decode()
        return self.text


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.stream.close()
    with contextlib.suppress(OSError):
        os.close(made.file)


@contextlib.contextmanager
def logging_to(handler: LineHandler, name: str = "test_log_lines") -> Iterator[logging.Logger]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


async def write(logger: logging.Logger, lines: int) -> None:
    for number in range(lines):
        logger.warning("%05d %s", number, LINE)
        if number % 10 == 0:
            await asyncio.sleep(0)


async def test_reader_that_stops_blocks_nobody_and_later_gets_whole_lines(reader: Reader) -> None:
    handler = LineHandler(reader.stream, limit=200_000)
    with logging_to(handler) as logger, logging_to(handler, "orchestrator.log"):
        async with asyncio.timeout(10):
            await write(logger, 5000)
        assert handler.dropped > 1000
        await until(lambda: "dropped" in reader.read())
        assert handler.dropped == 5000 - reader.text.count(LINE)
    lines = reader.text.splitlines()
    numbers = [int(line[:5]) for line in lines if LINE in line]
    assert numbers == list(range(len(numbers)))
    assert all(len(line) == 6 + len(LINE) for line in lines if LINE in line)


async def test_lines_are_kept_while_they_fit(reader: Reader) -> None:
    handler = LineHandler(reader.stream)
    with logging_to(handler) as logger:
        await write(logger, 2000)  # three times what a pipe takes
        await until(lambda: reader.read().count(LINE) == 2000)
    assert handler.dropped == 0


async def test_threads_are_not_blocked_either(reader: Reader) -> None:
    handler = LineHandler(reader.stream, limit=1000)
    with logging_to(handler) as logger:

        def write_lines() -> None:
            for _ in range(2000):
                logger.warning(LINE)

        thread = threading.Thread(target=write_lines)
        thread.start()
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
        reader.read()
        logger.warning("the end")
        await until(lambda: "the end" in reader.read())


async def test_reader_that_is_gone_costs_nothing(reader: Reader) -> None:
    handler = LineHandler(reader.stream)
    os.close(reader.file)
    with logging_to(handler) as logger:
        await write(logger, 100)
        await asyncio.sleep(0)
        assert handler.dropped == 100


async def test_last_lines_are_written_at_the_end(reader: Reader) -> None:
    handler = LineHandler(reader.stream)
    with logging_to(handler) as logger:
        await write(logger, 1000)
    os.set_blocking(reader.file, True)

    def read_all() -> None:
        while "00999" not in reader.text or not reader.text.endswith("\n"):
            reader.text += os.read(reader.file, 1000).decode()

    reading = threading.Thread(target=read_all)
    reading.start()
    handler.close()
    await asyncio.to_thread(reading.join)
    assert reader.text.count(LINE) == 1000


def test_close_does_not_wait_long_for_a_stalled_reader(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.log_lines._CLOSE_SECONDS", 0.05)
    handler = LineHandler(reader.stream)
    with logging_to(handler) as logger:
        for _ in range(2000):
            logger.warning(LINE)
    handler.close()


async def test_non_blocking_output_loses_nothing(reader: Reader) -> None:
    os.set_blocking(reader.stream.fileno(), False)
    handler = LineHandler(reader.stream)
    with logging_to(handler) as logger:
        await write(logger, 2000)
        await until(lambda: reader.read().count(LINE) == 2000)


def test_dropped_lines_of_the_process_are_counted(reader: Reader) -> None:
    handler = LineHandler(reader.stream)
    before = dropped_lines()
    logging.getLogger().addHandler(handler)
    try:
        handler.dropped = 7
        assert dropped_lines() == before + 7
    finally:
        logging.getLogger().removeHandler(handler)
