from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bench.scaling.autoscaling import Schedule, Target
from bench.scaling.resources import Policy, Resources, ScheduledAction, Step

UP = Policy("up", exact=False, cooldown=300, steps=(Step(0, None, 1),))
DOWN = Policy("down", exact=False, cooldown=900, steps=(Step(None, 0, -1),))
IDLE = Policy("idle", exact=True, cooldown=0, steps=(Step(None, 0, 0),))


def target(*, least: int = 0, most: int = 3, desired: int = 0) -> Target:
    policies = {policy.name: policy for policy in (UP, DOWN, IDLE)}
    return Target(Resources(least, most, (), policies, ()), desired=desired)


def test_policy_adds_once_per_cooldown() -> None:
    engines = target()
    for second in (0, 60, 120, 299):
        engines.call("up", 2, 1, second)
        assert engines.desired == 1
    engines.call("up", 2, 1, 300)
    assert engines.desired == 2


def test_limits_hold() -> None:
    engines = target(least=1, most=2, desired=2)
    engines.call("up", 9, 1, 0)
    assert engines.desired == 2
    engines.call("idle", 0, 1, 10)
    assert engines.desired == 1


def test_growing_does_not_wait_for_the_cooldown_of_shrinking() -> None:
    engines = target(desired=3)
    engines.call("down", 0, 1, 0)
    engines.call("down", 0, 1, 60)
    assert engines.desired == 2
    engines.call("up", 2, 1, 120)
    assert engines.desired == 3
    engines.call("down", 0, 1, 180)
    assert engines.desired == 2


def test_value_beyond_the_steps_changes_nothing() -> None:
    engines = target(desired=1)
    engines.call("idle", 5, 1, 0)
    assert engines.desired == 1


@pytest.mark.parametrize(
    ("cron", "zone", "at", "due"),
    [
        ("cron(0 8 ? * MON,TUE,WED,THU,FRI *)", "UTC", datetime(2026, 1, 5, 8, 0, tzinfo=UTC), True),
        ("cron(0 8 ? * MON-FRI *)", "UTC", datetime(2026, 1, 4, 8, 0, tzinfo=UTC), False),
        ("cron(0 8 ? * MON-FRI *)", "Europe/Berlin", datetime(2026, 1, 5, 7, 0, tzinfo=UTC), True),
        ("cron(0 8 ? * MON-FRI *)", "Europe/Berlin", datetime(2026, 7, 6, 6, 0, tzinfo=UTC), True),
        ("cron(30 22 1 * ? *)", "UTC", datetime(2026, 2, 1, 22, 30, tzinfo=UTC), True),
    ],
)
def test_scheduled_action_is_due_in_its_time_zone(cron: str, zone: str, at: datetime, due: bool) -> None:
    action = ScheduledAction(cron, zone, 1, None)
    assert bool(Schedule((action,), at).due(0)) == due


def test_scheduled_limits_change_the_number_of_engines() -> None:
    engines = target(desired=3)
    engines.limit(ScheduledAction("", "UTC", None, 1))
    assert (engines.desired, engines.most) == (1, 1)
    engines.limit(ScheduledAction("", "UTC", 2, 4))
    assert engines.desired == 2
