"""What the rehearsal of scaling learns from its engines."""

from __future__ import annotations

import asyncio

import pytest

from .scaling_engines import Engines


class Silent:
    """An engine that starts and ends at once."""

    def start(self) -> None:
        pass

    def retire(self, seconds: float) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.mark.timeout(60)
async def test_a_failed_stop_is_reported() -> None:
    engines = Engines(lambda port: Silent(), 1)
    engines.capacity.set()
    failed = asyncio.Event()

    async def fail(port: int) -> None:
        failed.set()
        raise KeyError(port)

    engines.before_stop = fail
    engines.resize(1)
    engines.resize(0)
    await failed.wait()
    await asyncio.sleep(0)  # the stop ends with the error
    with pytest.raises(AssertionError, match="did not start or stop"):
        engines.check()
    await engines.close()
