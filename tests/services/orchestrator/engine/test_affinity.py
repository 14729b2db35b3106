from __future__ import annotations

import collections
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.affinity import Rankings, hash_of, most_in_flight, prefix_of, ranked

TOOL = {"type": "function", "function": {"name": "calculate_math"}}


class Engine:
    def __init__(self, number: int) -> None:
        self.seed = hash_of(f"10.0.{number // 256}.{number % 256}:8000")
        self.in_flight = 0


def home(tier: list[Engine], prefix: int) -> Engine:
    return ranked(tier, prefix)[0]


def engines(count: int) -> list[Engine]:
    return [Engine(number) for number in range(count)]


def chat(system: str = "Be brief.", user: Any = "Hi", *more: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    messages += [{"role": "user", "content": text} for text in more]
    return {"model": "m", "messages": messages, **fields}


def test_prefix_is_the_beginning_of_a_conversation() -> None:
    first = prefix_of(chat())
    assert first == prefix_of(chat("Be brief.", "Hi", "And then?", temperature=1))
    assert first == prefix_of(chat("Be brief.", [{"type": "text", "text": "Hi"}]))
    others = [chat("Be long."), chat(user="Ho"), chat(model="n"), chat(tools=[TOOL])]
    assert len({first, *map(prefix_of, others)}) == 5


def test_text_that_is_not_unicode_has_a_prefix() -> None:
    assert prefix_of(chat("\ud800")) != prefix_of(chat("\ud800", "Ho"))


@pytest.mark.parametrize("field", ["prompt", "input", "instructions"])
def test_prefix_of_requests_without_messages(field: str) -> None:
    assert prefix_of({field: "a"}) != prefix_of({field: "b"})


_VALUES: Any = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_LISTS = st.lists(
    _VALUES | st.dictionaries(st.sampled_from(["role", "content", "text"]), _VALUES), max_size=3
)
_OBJECTS = st.dictionaries(st.sampled_from(["role", "content", "function", "name"]), _VALUES | _LISTS)


@given(
    request=st.dictionaries(
        st.sampled_from(["model", "messages", "tools", "prompt", "input"]),
        _VALUES | _LISTS | _OBJECTS | st.lists(_OBJECTS, max_size=3),
    )
)
def test_any_request_has_a_prefix(request: dict[str, Any]) -> None:
    assert 0 <= prefix_of(request) < 2**64


@given(
    count=st.integers(1, 64),
    prefixes=st.lists(st.integers(0, 3) | st.integers(0, 2**64 - 1), min_size=1, max_size=200),
    ends=st.randoms(use_true_random=False),
)
def test_no_engine_gets_more_than_its_bounded_share(
    count: int, prefixes: list[int], ends: random.Random
) -> None:
    tier = engines(count)
    for prefix in prefixes:
        in_flight = sum(engine.in_flight for engine in tier)
        bound = most_in_flight(in_flight, count)
        assert bound == math.ceil(1.25 * (in_flight + 1) / count)
        next(engine for engine in ranked(tier, prefix) if engine.in_flight < bound).in_flight += 1
        if ends.random() < 0.3:
            ends.choice([engine for engine in tier if engine.in_flight]).in_flight -= 1


@given(count=st.integers(1, 32), prefixes=st.lists(st.integers(0, 2**64 - 1), max_size=100))
def test_an_engine_that_comes_or_goes_moves_only_its_own_requests(count: int, prefixes: list[int]) -> None:
    tier = engines(count + 1)
    for prefix in prefixes:
        before, after = home(tier[:-1], prefix), home(tier, prefix)
        assert after in (before, tier[-1])


@pytest.mark.parametrize("count", [2, 3, 8, 64])
def test_prefixes_are_divided_evenly(count: int) -> None:
    tier = engines(count)
    homes = collections.Counter(
        id(home(tier, prefix_of(chat(f"conversation {n}")))) for n in range(500 * count)
    )
    assert len(homes) == count
    assert max(homes.values()) < 700
    assert min(homes.values()) > 300


def test_a_choice_among_64_engines_takes_microseconds() -> None:
    tier, request = engines(64), chat("You are a helpful assistant. " * 40, tools=[TOOL, TOOL])
    rankings: Rankings[Engine] = Rankings()

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(200):
            rankings.of(tier, prefix_of(request))
        return (time.perf_counter() - began) / 200

    assert min(seconds() for _ in range(20)) < 50e-6


def test_orders_are_remembered_until_the_engines_change() -> None:
    tier, rankings = engines(3), Rankings[Engine]()
    order = rankings.of(tier, 5)
    assert order == ranked(tier, 5)
    assert rankings.of(tier, 5) is order
    fewer = tier[:-1]
    assert rankings.of(fewer, 5) == ranked(fewer, 5) == [engine for engine in order if engine in fewer]
    assert all(len(rankings.of(fewer, hash_of(str(n)))) == 2 for n in range(10_000))
    assert len(rankings._orders) <= 4096
