"""The limits of the number of engines over a year."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.gpu_settings import Gpu, ScheduleEntry
from infra.deployment.schedule import Limits, fires, limits_of, shares


def gpu(*entries: dict[str, Any], **limits: Any) -> Gpu:
    return Gpu(schedule=tuple(ScheduleEntry(**entry) for entry in entries), **limits)


def test_without_a_schedule_the_limits_always_apply() -> None:
    assert shares(gpu()) == {Limits(1, 1): 1.0}
    assert shares(gpu(replicas=3)) == {Limits(3, 3): 1.0}
    assert shares(gpu(min_replicas=0, max_replicas=4)) == {Limits(0, 4): 1.0}
    assert shares(gpu(min_replicas=0)) == {Limits(0, 1): 1.0}
    assert shares(gpu(max_replicas=2)) == {Limits(1, 2): 1.0}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_nights_and_weekends_off_are_60_of_168_hours(zone: str) -> None:
    found = shares(
        gpu(
            {"cron": "0 8 * * MON-FRI", "time_zone": zone},
            {"cron": "0 20 * * MON-FRI", "time_zone": zone, "max_replicas": 0},
        )
    )
    assert found[Limits(1, 1)] == pytest.approx(60 / 168, abs=0.001)
    assert found[Limits(0, 0)] == pytest.approx(108 / 168, abs=0.001)


def test_limits_that_an_entry_leaves_out_are_those_of_the_settings() -> None:
    given_ = gpu(min_replicas=1, max_replicas=4)
    assert limits_of(ScheduleEntry(cron="0 8 * * *"), given_) == Limits(1, 4)
    assert limits_of(ScheduleEntry(cron="0 8 * * *", max_replicas=0), given_) == Limits(0, 0)
    assert limits_of(ScheduleEntry(cron="0 8 * * *", min_replicas=2), given_) == Limits(2, 4)
    assert limits_of(ScheduleEntry(cron="0 8 * * *", min_replicas=2, max_replicas=6), given_) == Limits(2, 6)


def test_entry_that_never_applies() -> None:
    assert not fires(ScheduleEntry(cron="0 8 30 FEB *"))
    assert fires(ScheduleEntry(cron="0 8 29 FEB *"))
    # A schedule that changes nothing leaves the limits of the settings.
    assert shares(gpu({"cron": "0 8 30 FEB *", "max_replicas": 0})) == {Limits(1, 1): 1.0}


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "cron": st.sampled_from(["0 8 * * MON-FRI", "30 * * * *", "0 0 1 * *", "0 20 * * SAT"]),
                "time_zone": st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Kiritimati"]),
            },
            optional={"max_replicas": st.integers(0, 5)},
        ),
        max_size=3,
    )
)
def test_shares_sum_to_the_whole_time(entries: list[dict[str, Any]]) -> None:
    assert sum(shares(gpu(*entries)).values()) == pytest.approx(1)
