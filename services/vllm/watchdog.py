"""Ends an engine that stops answering, so that whatever runs the container replaces it.

    python watchdog.py PID URL SECONDS

A container health check must tolerate failures for as long as a model may take to load, so it notices a hung
engine only after that time. This process waits for the first answer, and from then on kills the engine when
/health has not answered for SECONDS. It keeps no file, so a restarted container loads undisturbed again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

PROBE_SECONDS = 10.0
LOADING_PROBE_SECONDS = 1.0

# A proxy in the environment is for downloads, never for this container's own address.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str, seconds: float) -> bool | None:
    """Returns whether /health answers; None if nothing listens, as during loading and shutdown."""
    try:
        with _OPENER.open(url, timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True  # vLLM ends by itself when its engine has died, and finishes requests first
    except urllib.error.URLError as error:
        return None if isinstance(error.reason, ConnectionError) else False
    except ConnectionError:
        return None
    except OSError:
        return False


def watch(url: str, hang_seconds: float, *, is_alive: Callable[[], bool]) -> float | None:
    """Waits until the engine ends or hangs.

    Returns:
        For how long /health has not answered, at least `hang_seconds`; None if the engine has ended.
    """
    probe_seconds = min(PROBE_SECONDS, hang_seconds / 3)
    while is_alive() and answers(url, probe_seconds) is not True:
        time.sleep(min(LOADING_PROBE_SECONDS, probe_seconds))
    last = time.monotonic()
    _log("the engine answers")
    while is_alive():
        begun = time.monotonic()
        if answers(url, probe_seconds) is not False:
            last = time.monotonic()
        silent = time.monotonic() - last
        if silent >= hang_seconds:
            return silent
        time.sleep(max(0.0, begun + probe_seconds - time.monotonic()))
    return None


def _log(text: str) -> None:
    print(f"watchdog.py: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the container's log


def main() -> None:
    pid, url, hang_seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    # On a stop, the engine finishes its requests first. This process ends when the engine has.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    silent = watch(url, hang_seconds, is_alive=lambda: os.getppid() == pid)
    if silent is not None:
        _log(f"no answer from {url} for {silent:.0f} s: ending the engine")
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
