"""A small version of `make soak-restarts`: each orchestrator restarts once, and no request is lost."""

from __future__ import annotations

from tests.soak.restarts import run
from tests.support.proxies import PROXIES


async def test_restarts_behind_load_balancers_lose_nothing() -> None:
    outcome = await run(requests=500, drains=[1.0], clients=8)
    assert not outcome.lost, outcome.lost[:5]
    assert outcome.restarts == 3
    assert set(outcome.whole) == set(PROXIES)
