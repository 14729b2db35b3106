from __future__ import annotations

import threading

import pytest

from orchestrator.tools.context import ToolContext


def test_callbacks_run_once_in_another_thread() -> None:
    context = ToolContext("r1")
    ran: list[threading.Thread] = []
    done = threading.Event()
    context.on_cancel(lambda: ran.append(threading.current_thread()))
    context.on_cancel(done.set)
    assert not context.cancelled
    context.cancel()
    context.cancel()
    assert done.wait(5)
    assert context.cancelled
    assert len(ran) == 1
    assert ran[0] is not threading.current_thread()


def test_callback_registered_after_cancellation_runs_at_once() -> None:
    context = ToolContext("r1")
    context.cancel()
    done = threading.Event()
    context.on_cancel(done.set)
    assert done.wait(5)


def test_callback_that_raises_does_not_stop_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    context = ToolContext("r1")
    done = threading.Event()

    def broken() -> None:
        raise RuntimeError("secret")

    context.on_cancel(broken)
    context.on_cancel(done.set)
    context.cancel()
    assert done.wait(5)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_request_id_is_read_only() -> None:
    context = ToolContext("r1")
    assert context.request_id == "r1"
    with pytest.raises(AttributeError):
        context.request_id = "r2"  # type: ignore[misc]
    assert repr(context) == "ToolContext(request_id='r1', traceparent='', tracestate='')"
