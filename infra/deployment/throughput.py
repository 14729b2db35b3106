"""How many requests a second a task of the orchestrator carries, and how many engines those keep busy."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestCost:
    """What one request takes.

    Attributes:
        relay_us: CPU µs of a relayed request.
        loop_us: CPU µs of a request with one round of two tools.
        chunk_us: CPU µs of a streamed chunk, which is one token.
    """

    relay_us: float
    loop_us: float
    chunk_us: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What users ask: tokens of an answer, the share of requests that call tools, seconds between a user's
    requests."""

    answer_tokens: int = 300
    tool_share: float = 0.3
    seconds_between: float = 30.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of one task: requests a second, users that ask so often, tokens a second that it streams."""

    requests: float
    users: int
    tokens: float


BUSY_SHARE = 0.6
"""Of the CPU, at which the service scales out (orchestrator.target_cpu_percent's default)."""


def capacity(cost: RequestCost, traffic: Traffic, *, vcpu: float = 1.0, busy: float = BUSY_SHARE) -> Capacity:
    """What a task carries: the µs of CPU that it has in a second, over the µs that a request takes.

    One process serves on one core, so more than one vCPU counts as one.

    Raises:
        ValueError: a figure is not above 0, or a share not within 0 and 1.
    """
    if min(cost.relay_us, cost.loop_us, cost.chunk_us, traffic.seconds_between, vcpu) <= 0:
        raise ValueError("costs, times and vCPU must be above 0")
    if not 0 <= traffic.tool_share <= 1 or not 0 < busy <= 1:
        raise ValueError("shares must be within 0 and 1")
    asked = traffic.tool_share * cost.loop_us + (1 - traffic.tool_share) * cost.relay_us
    streamed = traffic.answer_tokens * cost.chunk_us
    requests = min(vcpu, 1.0) * busy * 1e6 / (asked + streamed)
    return Capacity(
        requests, math.floor(requests * traffic.seconds_between), requests * traffic.answer_tokens
    )


def engines_for(tokens: float, engine_tokens: float) -> int:
    """Engines that give so many tokens a second, where each gives `engine_tokens`.

    Raises:
        ValueError: an engine gives none.
    """
    if engine_tokens <= 0:
        raise ValueError("engine_tokens must be above 0")
    return math.ceil(tokens / engine_tokens)


MEASURED = RequestCost(relay_us=40, loop_us=149, chunk_us=30)
"""On a core of the benchmark's machine, each chunk alone: docs/performance.md."""

FARGATE_SHARE = 0.5
"""Of that core, for one vCPU of Fargate, a hardware thread: reckoned, until someone has measured it."""
