"""What a tool may know of the call that runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger("orchestrator.tools")


@dataclass(frozen=True)
class ToolContext:
    """Injected into the parameter of a tool that is annotated `ToolContext`; the model does not see it.

    Attributes:
        request_id: the id of the request, to send on to other services and to log.
    """

    request_id: str
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _gone: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)
    _callbacks: list[Callable[[], object]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the result any more: the caller left, or the time is up."""
        return self._gone.is_set()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Register what stops the work, for a tool in a thread, which cannot be stopped from outside.

        `callback` runs at most once, in another thread, where it may block; what it raises is logged. It
        runs at once if the call is already cancelled.
        """
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(callback)
                return
        _start([callback])

    def cancel(self) -> None:
        """Mark the call as cancelled and run the callbacks; returns without waiting for them."""
        with self._lock:
            self._gone.set()
            callbacks = self._callbacks.copy()
            self._callbacks.clear()
        if callbacks:
            _start(callbacks)


def _start(callbacks: list[Callable[[], object]]) -> None:
    threading.Thread(target=_run_each, args=(callbacks,), name="tool-cancel", daemon=True).start()


def _run_each(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  the callbacks after it still have to run
            log.warning("an on_cancel callback raised %s", type(error).__name__)
