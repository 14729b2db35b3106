"""Runs vLLM as a child: forwards signals and the exit status, reads its log, ends it if it hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import IO

from .settings import LaunchError
from .steps import Steps
from .watchdog import guard, wait_until_loaded

FORWARDED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_LINE_BYTES = 65_536
_LAST_WORDS_SECONDS = 5.0


def end_on_signals() -> None:
    """Makes signals end this process before there is an engine, even if it is a container's first one."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def run(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    url: str,
    hang_seconds: float,
    steps: Steps,
    on_ready: Callable[[], None],
) -> int:
    """Runs the engine until it ends.

    Args:
        argv: The engine's command line.
        environ: The engine's environment.
        url: Where the engine answers once it has loaded.
        hang_seconds: For how long a loaded engine may be silent; 0 lets it.
        steps: Where the steps of the start are recorded.
        on_ready: Called once in a thread when the engine has loaded.

    Returns:
        The engine's exit status; negative if a signal ended it.

    Raises:
        LaunchError: The command does not exist.
    """
    try:
        engine = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE)  # noqa: S603 - without a shell
    except FileNotFoundError:
        raise LaunchError(f"{argv[0]}: command not found on the PATH") from None
    _forward_signals(engine, steps)
    assert engine.stdout
    pump = threading.Thread(target=_pump, args=(engine.stdout, steps), daemon=True)
    pump.start()
    threading.Thread(target=_watch, args=(engine, url, hang_seconds, steps, on_ready), daemon=True).start()
    status = engine.wait()
    pump.join(_LAST_WORDS_SECONDS)  # an orphan of the engine may keep the pipe open
    return status


def exit_as(status: int) -> None:
    """Ends this process as the engine ended: with its status, or by the same signal."""
    if status < 0:
        number = -status
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        status = 128 + number  # the kernel shields the first process of a container
    sys.exit(status)


def _forward_signals(engine: subprocess.Popen[bytes], steps: Steps) -> None:
    # A terminal sends Ctrl-C to the engine as well; the second one would end it without finishing requests.
    from_terminal = sys.stdin is not None and sys.stdin.isatty()

    def forward(number: int, _: FrameType | None) -> None:
        steps.stop()
        if not (number == signal.SIGINT and from_terminal):
            engine.send_signal(number)

    for number in FORWARDED:
        signal.signal(number, forward)


def _watch(
    engine: subprocess.Popen[bytes],
    url: str,
    hang_seconds: float,
    steps: Steps,
    on_ready: Callable[[], None],
) -> None:
    if not wait_until_loaded(url, is_alive=lambda: engine.poll() is None):
        return
    steps.ready()
    threading.Thread(target=on_ready, daemon=True).start()
    if hang_seconds:
        guard(engine, url, hang_seconds)


def _pump(log: IO[bytes], steps: Steps) -> None:
    """Copies the engine's log to ours as it comes, and shows its lines to `steps`.

    It reads on whatever happens to our own log, because an engine that cannot write its log would stop.
    """
    unfinished = b""
    while piece := os.read(log.fileno(), _LINE_BYTES):
        with contextlib.suppress(OSError):
            _write(piece)
        *lines, unfinished = (unfinished + piece).split(b"\n")
        unfinished = unfinished[-_LINE_BYTES:]
        for line in lines:
            steps.read(line.decode(errors="replace"))


def _write(piece: bytes) -> None:
    sys.stdout.flush()
    while piece:
        piece = piece[os.write(sys.stdout.fileno(), piece) :]
