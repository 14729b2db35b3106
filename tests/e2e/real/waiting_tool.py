"""A tool that waits until it is cancelled, for clients that leave in the middle of it."""

import asyncio


async def wait_for_ever() -> str:
    """Wait."""
    await asyncio.Event().wait()
    return ""
