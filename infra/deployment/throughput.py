"""How many requests per second an orchestrator task handles, and how many engines that keeps busy."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestCost:
    """The CPU cost of a request.

    Attributes:
        relay_us: CPU µs per relayed request.
        loop_us: CPU µs per request with one round of two tools.
        chunk_us: CPU µs per streamed chunk, which is one token.
    """

    relay_us: float
    loop_us: float
    chunk_us: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic: tokens per answer, share of requests that call tools, seconds between a user's requests."""

    answer_tokens: int = 300
    tool_share: float = 0.3
    seconds_between: float = 30.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity of a task: requests per second, users, and streamed tokens per second."""

    requests: float
    users: int
    tokens: float


BUSY_SHARE = 0.6
"""Share of the CPU at which the service scales out (the default of orchestrator.target_cpu_percent)."""


def capacity(cost: RequestCost, traffic: Traffic, *, vcpu: float = 1.0, busy: float = BUSY_SHARE) -> Capacity:
    """Returns a task's capacity: its CPU µs per second divided by the µs per request.

    A task runs one process on one core, so more than one vCPU counts as one.

    Raises:
        ValueError: A figure is not above 0, or a share not between 0 and 1.
    """
    if min(cost.relay_us, cost.loop_us, cost.chunk_us, traffic.seconds_between, vcpu) <= 0:
        raise ValueError("costs, times and vCPU must be above 0")
    if not 0 <= traffic.tool_share <= 1 or not 0 < busy <= 1:
        raise ValueError("shares must be between 0 and 1")
    asked = traffic.tool_share * cost.loop_us + (1 - traffic.tool_share) * cost.relay_us
    streamed = traffic.answer_tokens * cost.chunk_us
    requests = min(vcpu, 1.0) * busy * 1e6 / (asked + streamed)
    return Capacity(
        requests, math.floor(requests * traffic.seconds_between), requests * traffic.answer_tokens
    )


def engines_for(tokens: float, engine_tokens: float) -> int:
    """Returns the number of engines that generate this many tokens per second at `engine_tokens` each.

    Raises:
        ValueError: `engine_tokens` is not above 0.
    """
    if engine_tokens <= 0:
        raise ValueError("engine_tokens must be above 0")
    return math.ceil(tokens / engine_tokens)


MEASURED = RequestCost(relay_us=40, loop_us=149, chunk_us=30)
"""Measured on a core of the benchmark's machine, with chunks sent one by one: docs/performance.md."""

FARGATE_SHARE = 0.5
"""Share of such a core in one Fargate vCPU, a hardware thread: an estimate that nobody has measured yet."""
