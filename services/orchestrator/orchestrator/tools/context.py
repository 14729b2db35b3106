"""What a tool can find out about its current call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger("orchestrator.tools")


@dataclass(frozen=True)
class ToolContext:
    """Passed to a tool's parameter that is annotated `ToolContext`. The model does not see this parameter.

    Attributes:
        request_id: the id of the request, to log and to pass on to other services.
        traceparent, tracestate: the client's trace context (W3C Trace Context), empty if it sent none.
    """

    request_id: str
    traceparent: str = ""
    tracestate: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _gone: bool = field(default=False, init=False, repr=False, compare=False)
    _callbacks: list[Callable[[], object]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the result: the caller has left or the time limit has passed."""
        return self._gone

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Register a callback that stops the work of a tool in a thread, which nothing else can stop.

        `callback` runs at most once, in another thread, where it may block. Its exceptions are logged. If the
        call is already cancelled, it runs at once.
        """
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(callback)
                return
        _start([callback])

    def cancel(self) -> None:
        """Mark the call as cancelled and run the callbacks; returns without waiting for them."""
        with self._lock:
            object.__setattr__(self, "_gone", True)
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
        except BaseException as error:  # noqa: BLE001  the remaining callbacks still have to run
            log.warning("an on_cancel callback raised %s", type(error).__name__)
