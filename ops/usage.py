"""Who used how much: the usage that orchestrators have stored, added up by day, key and model."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from rich.table import Table

from .account import Account, Failed, translated
from .key_limits import short

COUNTS = (
    "requests", "prompt_tokens", "completion_tokens", "cached_tokens", "tool_calls", "engine_seconds",
    "estimated",
)  # fmt: skip
FIELDS = ("day", "key", "model", *COUNTS)
MAX_DAYS = 400
KEY_VARIABLE = "TANDEM_API_KEY"

_SINCE = re.compile(r"([0-9]{1,3})([dw])")
_SECONDS = 30

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` to `last`, both included."""

    first: datetime
    last: datetime

    @property
    def days(self) -> list[str]:
        count = (self.last - self.first).days + 1
        return [f"{self.first + timedelta(days=number):%Y-%m-%d}" for number in range(count)]


def period(since: str, now: datetime) -> Period:
    """Returns the period from `since`, such as `7d`, `4w` or `2026-11-01`, until today in UTC.

    Raises:
        Failed: It is neither a period nor a date, or too long.
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match = _SINCE.fullmatch(since)
    try:
        if match:
            count = int(match[1]) * (7 if match[2] == "w" else 1)
            first = today - timedelta(days=count - 1)
        else:
            first = datetime.fromisoformat(since).replace(tzinfo=UTC)
    except ValueError:
        raise Failed(
            f"--since {since!r} is neither a period nor a date; examples: 1d, 4w, 2026-11-01"
        ) from None
    if not 0 <= (today - first).days < MAX_DAYS:
        raise Failed(f"--since {since!r} must be within the last {MAX_DAYS} days")
    return Period(first, today)


def stored(account: Account, days: Iterable[str]) -> list[Row]:
    """Returns the rows of a deployment's table."""
    name = account.outputs().get("UsageTable")
    if name is None:
        raise Failed("the release that is deployed keeps no usage; run make deploy")
    pages = account.client("dynamodb").get_paginator("query")
    rows: dict[tuple[str, str, str], Row] = {}
    for day in days:
        with translated():
            found = pages.paginate(
                TableName=name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": f"usage#{day}"}},
            )
            for page in found:
                for item in page["Items"]:
                    place = (day, item["key"]["S"], item["model"]["S"])
                    row = rows.setdefault(place, dict(zip(FIELDS, place, strict=False)))
                    for field in COUNTS:
                        row[field] = row.get(field, 0) + _number(item.get(field))
    return [rows[place] for place in sorted(rows)]


def of_keys(account: Account, now: datetime) -> dict[str, Row]:
    """Returns what each key has used today, by name."""
    return {row["key"]: row for row in grouped(stored(account, period("1d", now).days), ("key",))}


def reported(url: str, key: str | None, period: Period) -> list[Row]:
    """Returns the rows that a server reports at /v1/usage: those of the key or, to an admin's key, of all.

    Raises:
        Failed: The server does not answer, or rejects the key.
    """
    base = url.rstrip("/").removesuffix("/v1")
    key = key or os.environ.get(KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(
            f"{base}/v1/usage",
            params={"days": str(len(period.days))},
            headers=headers,
            timeout=_SECONDS,
        )
        body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Failed(f"{base}/v1/usage does not answer: {error}") from None
    if answer.status_code != 200:
        raise Failed(f"{base}/v1/usage: {body.get('error', {}).get('message', answer.status_code)}")
    rows: list[Row] = body["data"]
    return rows


def grouped(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Adds up the rows that have the same values of the fields `by`."""
    sums: dict[tuple[str, ...], Row] = {}
    for row in rows:
        place = tuple(row[field] for field in by)
        total = sums.setdefault(place, {**dict(zip(by, place, strict=True)), **dict.fromkeys(COUNTS, 0)})
        for field in COUNTS:
            total[field] += row[field]
    for total in sums.values():
        total["engine_seconds"] = round(total["engine_seconds"], 3)
    return [sums[place] for place in sorted(sums)]


def as_csv(rows: Sequence[Row]) -> str:
    """Returns the rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "model": _harmless(row["model"])} for row in rows)
    return text.getvalue()


def _harmless(text: str) -> str:
    """Returns a name that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and text != "-" else text


def table(rows: Sequence[Row]) -> Table:
    """Returns the sums of each key and model, and of all."""
    shown = Table(
        "key", "model", "requests", "tokens in", "of them cached", "tokens out", "tool calls", "engine time",
        box=None, header_style="bold",
    )  # fmt: skip
    for column in shown.columns[2:]:
        column.justify = "right"
    for row in grouped(rows, ("key", "model")):
        shown.add_row(row["key"], row["model"], *_cells(row))
    for total in grouped([{**row, "all": "all"} for row in rows], ("all",)):
        shown.add_row("all", "", *_cells(total), style="bold")
    return shown


def _cells(row: Row) -> list[str]:
    counts = (row["requests"], row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"])
    minutes, seconds = divmod(round(row["engine_seconds"]), 60)
    hours, minutes = divmod(minutes, 60)
    return [*map(short, (*counts, row["tool_calls"])), f"{hours}:{minutes:02}:{seconds:02}"]


def _number(attribute: dict[str, str] | None) -> float:
    text = attribute["N"] if attribute else "0"
    return int(text) if text.isdigit() else float(text)
