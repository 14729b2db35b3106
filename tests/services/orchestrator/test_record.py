"""What a record keeps of a request, and the shares of the engines' time."""

from __future__ import annotations

import random

import pytest

from orchestrator.record import EngineTime, Record


def test_requests_that_run_together_share_the_time() -> None:
    clock = EngineTime()
    first = clock.enter(0.0)
    second = clock.enter(2.0)
    assert clock.leave(first, 6.0) == pytest.approx(2 + 4 / 2)
    assert clock.leave(second, 7.0) == pytest.approx(4 / 2 + 1)


def test_several_engines_serve_several_requests_at_once() -> None:
    clock = EngineTime()
    clock.engines = 2
    begun = [clock.enter(0.0) for _ in range(4)]
    assert [clock.leave(one, 1.0) for one in begun] == pytest.approx([0.5] * 4)
    assert clock.leave(clock.enter(5.0), 6.0) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_shares_add_up_to_the_time_in_which_any_request_ran(seed: int) -> None:
    choose, clock = random.Random(seed), EngineTime()
    now, busy, shares = 0.0, 0.0, 0.0
    running: list[float] = []
    for _ in range(500):
        step = choose.random()
        busy += step if running else 0.0
        now += step
        if running and choose.random() < 0.5:
            shares += clock.leave(running.pop(choose.randrange(len(running))), now)
        else:
            running.append(clock.enter(now))
    shares += sum(clock.leave(one, now) for one in running)
    assert shares == pytest.approx(busy)


def test_only_tokens_that_an_engine_did_not_report_remain_unreported() -> None:
    record = Record("r", "/v1/chat/completions")
    record.ask(100)
    record.events = 3
    record.count_tokens(
        {"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 16}}
    )
    record.answered()
    record.ask(250)
    assert (record.unreported_bytes, record.reported_bytes, record.events) == (250, 100, 0)
    assert (record.tokens, record.cached_tokens) == (23, 16)
    record.answered()
    assert record.unreported_seconds >= 0
    record.rejected()
    assert record.unreported_bytes == 0


def test_end_is_noted_once() -> None:
    record = Record("r", "/v1/embeddings")
    record.answered()
    record.ask(10)
    record.answered()
    seconds = record.engine_seconds
    record.answered()
    assert record.engine_seconds == seconds


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": 1.5, "prompt_tokens_details": {"cached_tokens": ""}},
     {"input_tokens": 2**60, "input_tokens_details": []}],
)  # fmt: skip
def test_counts_that_are_none_are_not_counted(usage: dict[str, object] | None) -> None:
    record = Record("r", "/v1/embeddings")
    record.count_tokens(usage)
    assert (record.tokens, record.cached_tokens) == (0, 0)


def test_responses_name_their_tokens_otherwise() -> None:
    record = Record("r", "/v1/responses")
    record.count_tokens({"input_tokens": 7, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}})
    assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (7, 2, 4)
