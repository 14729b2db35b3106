"""Reports what a command is waiting for, so that silence is explained."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .report import say


class Waiting:
    """What is being waited for now. Prints a line when something takes longer than `after` seconds.

    It prints another line every `after` seconds while that goes on. Threads may share one.
    """

    def __init__(self, after: float, report: Callable[[str], None] = say) -> None:
        self._after = after
        self._report = report
        self._lock = threading.Lock()
        self._started: dict[object, tuple[str, float]] = {}
        self._timer: threading.Timer | None = None

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Waits for `what` while the block runs."""
        token = object()
        self.start(token, what)
        try:
            yield
        finally:
            self.end(token)

    def start(self, token: object, what: str) -> None:
        with self._lock:
            self._started[token] = (what, time.monotonic())
            if self._timer is None:
                self._arm()

    def end(self, token: object) -> None:
        with self._lock:
            self._started.pop(token, None)
            if not self._started and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _arm(self) -> None:
        self._timer = threading.Timer(self._after, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            if not self._started:
                return
            self._arm()
            what, since = min(self._started.values(), key=lambda entry: entry[1])
            others = len(self._started) - 1
        seconds = time.monotonic() - since
        if seconds >= self._after:
            more = f" and {others} more" if others else ""
            self._report(f"  … no answer for {round(seconds, 1):g} s: {what}{more}")
