"""What is started in parts: if one does not start, those before it are ended."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Parts:
    """Runs while it is entered. A subclass starts its parts in `_start` and enters each in `_exit`."""

    def __init__(self) -> None:
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self) -> None:
        raise NotImplementedError
