"""Cron expressions of five fields: what they match, and how Application Auto Scaling writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time

_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_PART = re.compile(r"(\*|[0-9A-Za-z]+)(?:-([0-9A-Za-z]+))?(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class Cron:
    """The values that each field of an expression allows. Weekdays count from Sunday, which is 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    def times(self, day: date) -> Iterator[time]:
        """Yields the times of a day at which the expression fires, in order."""
        if day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays:
            for hour in self.hours:
                yield from (time(hour, minute) for minute in self.minutes)

    def aws(self) -> str:
        """The expression as AWS writes it: six fields, weekdays by name, and `?` for one of the days."""
        by_weekday = len(self.weekdays) < 7
        days = "?" if by_weekday else _listed(self.days, 31)
        weekdays = ",".join(_WEEKDAYS[day] for day in self.weekdays) if by_weekday else "?"
        minutes, hours, months = _listed(self.minutes, 60), _listed(self.hours, 24), _listed(self.months, 12)
        return f"cron({minutes} {hours} {days} {months} {weekdays} *)"


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of an expression: its values, and the names of the first ones, if they have names."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> tuple[int, ...]:
        found: set[int] = set()
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if match is None or (match[1] == "*" and match[2]):
                raise ValueError(
                    f"the {self.name} must be * or values from {self.least} to {self.most}, not {part!r}"
                )
            found.update(self._range(part, *match.groups()))
        return tuple(sorted(found))

    def _range(self, part: str, start: str, end: str | None, step: str | None) -> range:
        if start == "*":
            low, high = self.least, self.most
        else:
            low = self._value(start)
            high = self._value(end) if end else (self.most if step else low)
        if high < low and self.names == _WEEKDAYS:
            high += 7  # FRI-MON: Sunday is 0 as well as 7
        if step == "0" or high < low:
            raise ValueError(f"the {self.name} {part!r} contains no value")
        return range(low, high + 1, int(step or 1))

    def _value(self, text: str) -> int:
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.least
        if not text.isdecimal() or not self.least <= int(text) <= self.most:
            allowed = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"the {self.name} must be from {self.least} to {self.most}{allowed}, not {text}")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)


def parse_cron(text: str) -> Cron:
    """Reads an expression such as `0 8 * * MON-FRI`.

    Raises:
        ValueError: The expression is invalid. The message says which field is, and what is allowed.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise ValueError(
            f"must have {len(_FIELDS)} fields ({names}) such as 0 8 * * MON-FRI, not {len(fields)}"
        )
    minutes, hours, days, months, weekdays = (
        field.values(value) for field, value in zip(_FIELDS, fields, strict=True)
    )
    cron = Cron(minutes, hours, days, months, tuple(sorted({day % 7 for day in weekdays})))
    if len(cron.days) < 31 and len(cron.weekdays) < 7:
        raise ValueError("must have * as the day of month or as the weekday, because AWS supports only one")
    return cron


def _listed(values: tuple[int, ...], count: int) -> str:
    return "*" if len(values) == count else ",".join(map(str, values))
