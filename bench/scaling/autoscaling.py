"""Application Auto Scaling: step policies with cooldowns, limits, and scheduled actions.

Source: "How step scaling works" and "How scheduled scaling works" in its user guide.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from .resources import Policy, Resources, ScheduledAction


class Target:
    """The number of engines that are wanted.

    Attributes:
        desired: that number.
        least, most: the limits now.
    """

    def __init__(self, resources: Resources, *, desired: int | None = None) -> None:
        self.least, self.most = resources.least, resources.most
        self.desired = max(self.least, desired or 0)
        self._policies = resources.policies
        self._added: dict[str, int] = {}
        self._out_until: dict[str, float] = {}
        self._in_until = -math.inf

    def call(self, name: str, value: float, threshold: float, now: float) -> None:
        """Applies a policy, as an alarm with this value does."""
        policy = self._policies[name]
        change = _change(policy, value - threshold)
        if change is None:
            return
        base = self.desired
        cooling = now < self._out_until.get(name, -math.inf)
        if cooling:  # what this policy has added since counts as done
            base -= self._added.get(name, 0)
        wanted = change if policy.exact else base + change
        wanted = min(max(wanted, self.least), self.most)
        if wanted > self.desired:
            self._added[name] = (self._added.get(name, 0) if cooling else 0) + wanted - self.desired
            self._out_until[name] = now + policy.cooldown
            self._in_until = -math.inf  # growing ends the cooldown of shrinking
            self.desired = wanted
        elif wanted < self.desired and not cooling and now >= self._in_until:
            self._in_until = now + policy.cooldown
            self.desired = wanted

    def limit(self, action: ScheduledAction) -> None:
        """Applies the limits of a scheduled action."""
        self.least = self.least if action.least is None else action.least
        self.most = self.most if action.most is None else action.most
        self.desired = min(max(self.desired, self.least), self.most)


def _change(policy: Policy, distance: float) -> int | None:
    """Returns the change of the step for a distance from the threshold."""
    for step in policy.steps:
        if (step.lower is None or step.lower <= distance) and (step.upper is None or distance <= step.upper):
            return step.change
    return None


class Schedule:
    """The scheduled actions in the order of their times.

    Args:
        start: the time at second 0 of the simulation.
    """

    def __init__(self, actions: tuple[ScheduledAction, ...], start: datetime) -> None:
        self._actions = [(_Cron(action.cron), ZoneInfo(action.time_zone), action) for action in actions]
        self._start = start.astimezone(UTC)

    def due(self, minute: int) -> list[ScheduledAction]:
        """Returns the actions of a minute after the start."""
        now = self._start + timedelta(minutes=minute)
        return [action for cron, zone, action in self._actions if cron.matches(now.astimezone(zone))]


class _Cron:
    """AWS's cron(minute hour day month weekday year), with lists, ranges and `*`."""

    _DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

    def __init__(self, text: str) -> None:
        fields = text.removeprefix("cron(").removesuffix(")").split()
        minute, hour, day, month, weekday, _year = fields
        self._minute, self._hour = _numbers(minute), _numbers(hour)
        self._day, self._month = _numbers(day), _numbers(month)
        for number, name in enumerate(self._DAYS, 1):
            weekday = weekday.replace(name, str(number))
        self._weekday = _numbers(weekday)

    def matches(self, at: datetime) -> bool:
        pairs = (
            (self._minute, at.minute), (self._hour, at.hour), (self._day, at.day), (self._month, at.month),
            (self._weekday, at.isoweekday() % 7 + 1),
        )  # fmt: skip
        return all(allowed is None or value in allowed for allowed, value in pairs)


def _numbers(text: str) -> frozenset[int] | None:
    if text in ("*", "?"):
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)
