"""Small versions of `make soak-limits`."""

from __future__ import annotations

import pytest

from tests.soak.limits import run

pytestmark = pytest.mark.timeout(180)


async def test_usage_is_exactly_what_the_engine_counted() -> None:
    outcome = await run(requests=150, kills=0, clients=8, seed=1, cancels=False)
    assert not outcome.violations, outcome.violations
    assert outcome.total.estimated == 0
    assert outcome.engine == (outcome.total.prompt_tokens, outcome.total.completion_tokens)
    assert outcome.answers["small", 200] > 0


async def test_limits_hold_while_orchestrators_are_killed() -> None:
    outcome = await run(requests=900, kills=2, clients=12, seed=2)
    assert not outcome.violations, outcome.violations
    assert len(outcome.kills) >= 1
    assert outcome.cancelled > 0
    assert outcome.answers["small", 429] > 0
