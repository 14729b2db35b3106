"""A tool that waits until it is cancelled, for clients that disconnect during a tool call."""

import asyncio


async def wait_for_ever(location: str) -> str:
    """Wait in a place.

    Args:
        location: Where to wait.
    """
    await asyncio.Event().wait()
    return location
