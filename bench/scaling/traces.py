"""Traces of requests, by the seconds of their arrival."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from .fleet import Request

HOUR = 3600


@dataclass(frozen=True)
class Trace:
    """A trace and what it is about.

    Attributes:
        dead_from: the second from which on nobody publishes metrics.
        desired: the number of engines at the start.
    """

    name: str
    about: str
    requests: list[Request]
    seconds: int
    dead_from: float = math.inf
    desired: int = 0


def arrivals(
    rate: Callable[[int], float], seconds: int, *, lasting: int = 20, streams: float = 0.9, seed: int = 1
) -> list[Request]:
    """Returns requests that arrive at random with this rate per second."""
    chance = random.Random(seed)  # noqa: S311 (a simulation)
    found = []
    for second in range(seconds):
        left = rate(second)
        while left > 0 and chance.random() < 1 - math.exp(-left):
            found.append(
                Request(second, max(1, round(chance.expovariate(1 / lasting))), chance.random() < streams)
            )
            left -= 1
    return found


def _office(second: int) -> float:
    """People at work from 8 to 18 o'clock, with a break at noon, and a few in the evening."""
    hour = second % (24 * HOUR) / HOUR
    if 8 <= hour < 18:
        lunch = 0.6 if 12 <= hour < 13 else 1
        return 3.2 * math.sin(math.pi * (hour - 7.5) / 11) ** 2 * lunch
    return 0.004 if 18 <= hour < 22 else 0


def working_day() -> Trace:
    return Trace(
        "working day",
        "office hours, few in the evening, none at night",
        arrivals(_office, 24 * HOUR),
        24 * HOUR,
    )


def burst() -> Trace:
    requests = arrivals(lambda second: 1.5 if 1800 <= second < 3 * HOUR else 0, 3 * HOUR)
    return Trace("burst from zero", "1.5 requests per second from one second to the next", requests, 5 * HOUR)


def herd() -> Trace:
    requests = [Request(1800 + number // 30, 8) for number in range(60)]
    return Trace("thundering herd", "60 streams within two seconds, then nobody", requests, 2 * HOUR)


def slow_leak() -> Trace:
    requests = [Request(at, 5) for at in range(0, 6 * HOUR, 600)]
    return Trace(
        "slow leak", "one request every ten minutes, so that the engine never idles", requests, 8 * HOUR
    )


def dead_publisher() -> Trace:
    requests = arrivals(lambda _: 2.0, 3 * HOUR)
    return Trace("dead publisher", "steady load; no metrics after an hour", requests, 4 * HOUR, HOUR, 2)


ALL = (working_day, burst, herd, slow_leak, dead_publisher)
