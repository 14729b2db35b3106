"""Ends an engine that stops answering, so that whatever runs the container replaces it.

A container health check must tolerate failures for as long as a model may take to load, so it notices a hung
engine only after that time. The watchdog waits for the first answer, and from then on kills the engine when
/health has not answered for a while. It keeps no file, so a restarted container loads undisturbed again.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

PROBE_SECONDS = 10.0
LOADING_PROBE_SECONDS = 0.25

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


def wait_until_loaded(url: str, *, is_alive: Callable[[], bool]) -> bool:
    """Waits for the first answer; False if the engine ended before."""
    while is_alive():
        if answers(url, PROBE_SECONDS):
            return True
        time.sleep(LOADING_PROBE_SECONDS)
    return False


def watch(url: str, hang_seconds: float, *, is_alive: Callable[[], bool]) -> float | None:
    """Waits until an engine that has answered ends or hangs.

    Returns:
        For how long /health has not answered, at least `hang_seconds`; None if the engine has ended.
    """
    probe_seconds = min(PROBE_SECONDS, hang_seconds / 3)
    last = time.monotonic()
    while is_alive():
        begun = time.monotonic()
        if answers(url, probe_seconds) is not False:
            last = time.monotonic()
        silent = time.monotonic() - last
        if silent >= hang_seconds:
            return silent
        time.sleep(max(0.0, begun + probe_seconds - time.monotonic()))
    return None


def guard(engine: subprocess.Popen[bytes], url: str, hang_seconds: float) -> None:
    """Kills the engine when it has not answered for `hang_seconds`; returns when it has ended."""
    silent = watch(url, hang_seconds, is_alive=lambda: engine.poll() is None)
    if silent is not None:
        _log(f"no answer from {url} for {silent:.0f} s: ending the engine")
        engine.kill()


def _log(text: str) -> None:
    print(f"watchdog.py: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the container's log
