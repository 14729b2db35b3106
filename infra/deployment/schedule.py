"""How many engines there may be, and for which share of the time: the limits of `gpu` and of its schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from .cron import parse_cron
from .gpu_settings import Gpu, ScheduleEntry

_FIRST_DAY = date(2026, 1, 1)
_WEEK, _YEAR = 7, 364


@dataclass(frozen=True, slots=True)
class Limits:
    """The minimum and maximum number of engines."""

    least: int
    most: int


def limits_of(entry: ScheduleEntry, gpu: Gpu) -> Limits:
    """Returns the limits that an entry sets. The minimum of `gpu` never exceeds the entry's maximum."""
    most = gpu.most if entry.max_replicas is None else entry.max_replicas
    if entry.min_replicas is not None:
        return Limits(entry.min_replicas, most)
    return Limits(min(gpu.least, most), most)


def all_limits(gpu: Gpu) -> tuple[Limits, ...]:
    """Returns the limits until the first entry of the schedule applies, and those of each entry."""
    return (Limits(gpu.least, gpu.most), *(limits_of(entry, gpu) for entry in gpu.schedule))


def shares(gpu: Gpu) -> dict[Limits, float]:
    """Returns the share of the time that each limits apply for, in the 52 weeks of a year."""
    crons = [parse_cron(entry.cron) for entry in gpu.schedule]
    days = _WEEK if all(len(cron.days) == 31 and len(cron.months) == 12 for cron in crons) else _YEAR
    length = timedelta(days=days)
    # One week or year is like the next, so a change after the last day is one of the first day.
    changes = sorted(
        ((at % length, limits) for at, limits in _changes(gpu, days)), key=lambda change: change[0]
    )
    if not changes:
        return {Limits(gpu.least, gpu.most): 1.0}
    times = [timedelta(0), *(at for at, _ in changes), length]
    states = [changes[-1][1], *(limits for _, limits in changes)]
    found: dict[Limits, float] = {}
    for limits, since, until in zip(states, times, times[1:], strict=False):
        found[limits] = found.get(limits, 0.0) + (until - since) / length
    return {limits: share for limits, share in found.items() if share > 0}


def fires(entry: ScheduleEntry) -> bool:
    """Returns whether an entry ever applies, which 30 February does not."""
    cron = parse_cron(entry.cron)
    # Eight years have every date on some weekday of every kind, 29 February included.
    return any(next(cron.times(_FIRST_DAY + timedelta(days=day)), None) for day in range(8 * 366))


def _changes(gpu: Gpu, days: int) -> Iterator[tuple[timedelta, Limits]]:
    """Yields the changes of some days, each with its time since their first midnight in UTC."""
    start = datetime.combine(_FIRST_DAY, datetime.min.time(), UTC)
    for entry in gpu.schedule:
        cron, zone, limits = parse_cron(entry.cron), ZoneInfo(entry.time_zone), limits_of(entry, gpu)
        for number in range(days):
            day = _FIRST_DAY + timedelta(days=number)
            for time in cron.times(day):
                yield datetime.combine(day, time, zone) - start, limits
