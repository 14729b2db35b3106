"""Cron expressions: what they match, and what AWS gets."""

from __future__ import annotations

import contextlib
from datetime import date, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.cron import parse_cron

MONDAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("text", "aws"),
    [
        ("0 8 * * MON-FRI", "cron(0 8 ? * MON,TUE,WED,THU,FRI *)"),
        ("0 8 * * 1-5", "cron(0 8 ? * MON,TUE,WED,THU,FRI *)"),
        ("0 8 * * fri-mon", "cron(0 8 ? * SUN,MON,FRI,SAT *)"),
        ("0 8 * * 7", "cron(0 8 ? * SUN *)"),
        ("*/30 8-10 * * *", "cron(0,30 8,9,10 * * ? *)"),
        ("0 0 1 JAN,jul *", "cron(0 0 1 1,7 ? *)"),
        ("5/20 * * * *", "cron(5,25,45 * * * ? *)"),
    ],
)
def test_aws_expression(text: str, aws: str) -> None:
    assert parse_cron(text).aws() == aws


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 8 * *", "must have 5 fields"),
        ("0 8 * * * *", "must have 5 fields"),
        ("60 8 * * *", "the minute must be from 0 to 59, not 60"),
        ("0 24 * * *", "the hour must be from 0 to 23, not 24"),
        ("0 8 0 * *", "the day of month must be from 1 to 31, not 0"),
        ("0 8 * 13 *", "the month must be from 1 to 12, or JAN to DEC, not 13"),
        ("0 8 * * MONDAY", "the weekday must be from 0 to 7, or SUN to SAT, not MONDAY"),
        ("0 10-8 * * *", "the hour '10-8' contains no value"),
        ("0 */0 * * *", "contains no value"),
        ("0 *-5 * * *", "must be \\* or values from 0 to 23"),
        ("0 , * * *", "must be \\* or values from 0 to 23, not ''"),
        ("0 8 ? * MON", "must be \\* or values from 1 to 31, not '\\?'"),
        ("0 8 1 * MON", "AWS supports only one"),
        ("0 ٨ * * *", "must be"),
    ],
)
def test_invalid_expression_is_rejected_with_the_field_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cron(text)


def test_times_of_a_day() -> None:
    assert list(parse_cron("0,30 8 * * MON").times(MONDAY)) == [time(8), time(8, 30)]
    assert list(parse_cron("0 8 * * TUE").times(MONDAY)) == []
    assert list(parse_cron("0 8 23 NOV *").times(MONDAY)) == [time(8)]
    assert list(parse_cron("0 8 22 * *").times(MONDAY)) == []


@given(st.text(alphabet="0123456789*/-, MONFRIx?", max_size=20))
def test_any_text_is_read_or_rejected(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_cron(text).aws().count(" ") == 5
