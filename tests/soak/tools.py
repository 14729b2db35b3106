"""Slow server tools, so that requests are aborted and clients disconnect while they run."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from pydantic import Field

Seconds = Annotated[float, Field(ge=0, le=60)]


async def pause_awaited(seconds: Seconds) -> str:
    """Pause in the event loop.

    Args:
        seconds: How long.
    """
    await asyncio.sleep(seconds)
    return f"Paused for {seconds:g} seconds."


def pause_blocking(seconds: Seconds) -> str:
    """Pause in a thread.

    Args:
        seconds: How long.
    """
    time.sleep(seconds)
    return f"Blocked for {seconds:g} seconds."
