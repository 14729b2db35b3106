"""What the rehearsal prints of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints what is done and how long it took."""
    print(f"\n{title}", flush=True)
    begun = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)


def saw(text: str) -> None:
    print(f"  ok  {text}", flush=True)
