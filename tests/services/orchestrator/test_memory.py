from __future__ import annotations

import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidRequest, Overloaded
from orchestrator.memory import Budget, Share, answer_cost, default_budget

MANY = 10_000_000


def test_request_over_the_budget_is_rejected_with_a_time_to_retry() -> None:
    budget = Budget(100)
    budget.acquire(60)
    with pytest.raises(Overloaded, match="60 of 100 bytes, and this one needs 41 more") as caught:
        budget.acquire(41)
    assert caught.value.status == 429
    assert caught.value.headers["retry-after"]
    budget.release(60)
    budget.acquire(100)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400)), max_size=40))
def test_shares_add_up_to_the_used_budget(steps: list[tuple[int, int]]) -> None:
    budget = Budget(1000)
    shares = [Share(budget) for _ in range(5)]
    for index, size in steps:
        before = shares[index].size
        try:
            shares[index].resize(size)
        except Overloaded:
            assert shares[index].size == before
        assert budget.used == sum(share.size for share in shares) <= 1000
    for share in shares:
        share.resize(0)
    assert budget.used == 0


LARGE = 1_000_000
BODIES = {
    "empty arrays": b'{"x":[' + b",".join([b"[]"] * (LARGE // 3)) + b"]}",
    "empty objects": b'{"x":[' + b",".join([b"{}"] * (LARGE // 3)) + b"]}",
    "small objects": b'{"x":[' + b",".join([b'{"a":0}'] * (LARGE // 8)) + b"]}",
    "numbers": b'{"x":[' + b",".join([b"1.1"] * (LARGE // 4)) + b"]}",
    "keys": b"{" + b",".join(b'"%x":0' % n for n in range(LARGE // 9)) + b"}",
    "text": b'{"x":"' + b"a" * LARGE + b'"}',
    "text with one wide character": '{"x":"😀'.encode() + b"a" * LARGE + b'"}',
    "text with one escaped wide character": b'{"x":"\\ud83d\\ude00' + b"a" * LARGE + b'"}',
    "strings": b'{"x":[' + b",".join([b'"ab"'] * (LARGE // 5)) + b"]}",
    "nested": b"[" * 500 + b"]" * 500,
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("full", [False, True])
def test_share_covers_the_cost_of_a_body(name: str, full: bool) -> None:
    body = BODIES[name]
    budget = Budget(2_000_000_000)
    if full:
        budget.acquire(1_100_000_000)
    share = Share(budget)
    share.resize_for(body, MANY)
    tracemalloc.start()
    try:
        value = orjson.loads(body)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del value
    assert len(body) + held <= share.size


def test_too_many_values_are_rejected_before_they_are_parsed() -> None:
    share = Share(Budget(MANY * 1000))
    with pytest.raises(InvalidRequest, match="at most 1,000 are accepted"):
        share.resize_for(BODIES["empty arrays"], 1000)
    assert share.size == 0


def test_default_is_a_share_of_the_available_memory() -> None:
    assert default_budget() > 16_000_000


@pytest.mark.parametrize("value", [b"[],", b"{},", b"1.5,", b'"a",', b'{"a":1},'])
def test_cost_of_an_answer_is_at_least_what_parsing_it_takes(value: bytes) -> None:
    answer = b'{"x":[' + value * 200_000 + b"1]}"
    tracemalloc.start()
    parsed = orjson.loads(answer)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert parsed
    assert len(answer) + taken <= answer_cost(answer)
