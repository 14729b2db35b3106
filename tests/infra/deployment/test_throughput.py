"""The arithmetic of capacity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.throughput import RequestCost, Traffic, capacity, engines_for

COST = RequestCost(relay_us=50, loop_us=200, chunk_us=2)


def test_a_case_by_hand() -> None:
    # 0.6 * 1,000,000 µs over 0.5 * 50 + 0.5 * 200 + 100 * 2 = 325 µs
    found = capacity(COST, Traffic(answer_tokens=100, tool_share=0.5, seconds_between=10))
    assert found.requests == pytest.approx(600_000 / 325)
    assert found.users == 18_461
    assert found.tokens == pytest.approx(184_615, abs=1)


def test_a_second_core_is_not_used_and_half_a_one_halves() -> None:
    one = capacity(COST, Traffic())
    assert capacity(COST, Traffic(), vcpu=2) == one
    assert capacity(COST, Traffic(), vcpu=0.5).requests == pytest.approx(one.requests / 2)


@given(st.floats(0, 1), st.integers(1, 4000))
def test_more_tools_and_longer_answers_never_carry_more(share: float, tokens: int) -> None:
    some = capacity(COST, Traffic(answer_tokens=tokens, tool_share=share))
    assert some.requests >= capacity(COST, Traffic(answer_tokens=tokens + 1, tool_share=share)).requests
    assert some.requests >= capacity(COST, Traffic(answer_tokens=tokens, tool_share=1.0)).requests


@pytest.mark.parametrize(("tokens", "engines"), [(0, 0), (1, 1), (1000, 1), (1001, 2), (184_615, 185)])
def test_engines(tokens: float, engines: int) -> None:
    assert engines_for(tokens, 1000) == engines


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: capacity(RequestCost(0, 1, 1), Traffic()),
        lambda: capacity(COST, Traffic(tool_share=1.5)),
        lambda: capacity(COST, Traffic(), busy=0),
        lambda: engines_for(1, 0),
    ],
)
def test_figures_that_cannot_be(wrong: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        wrong()  # type: ignore[operator]
