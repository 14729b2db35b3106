"""The DynamoDB table that several orchestrators share: leases of limits, and usage.

All calls block, so they run in threads. Each can be repeated without counting anything twice, since a process
writes only absolute values, and only its own.

| pk | sk | attributes |
|---|---|---|
| `task` | task | `until`: when the task counts as dead |
| `limit#KEY` | `UNIT#WINDOW` | `taken` units in all; `g#TASK` units granted to a task, `s#TASK` spent |
| `usage#DAY` | `KEY#TASK#HASH` | the task's row for the key and the model with this hash |
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from .usage import RowKey, Use

LIVE_SECONDS = 60
_DAY = 86_400
_KEEP_USAGE_DAYS = 400
_TRIES = 5
_BATCH = 25


@dataclass(frozen=True, slots=True)
class Terms:
    """What a task asks for.

    Attributes:
        key, unit, window: whose limit it is, `requests` or `tokens`, and the window's number.
        ends: when the window ends, in Unix time.
        limit: units per window, for all tasks together.
        granted: units that the task believes to hold or to have spent.
        wanted: units that it wants to hold or to have spent instead.
        spent: units that it has spent.
    """

    key: str
    unit: str
    window: int
    ends: float
    limit: int
    granted: int
    wanted: int
    spent: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What a task got.

    Attributes:
        granted: units that the task holds or has spent.
        others: units that other tasks hold or have spent.
        unspent: units that each of the others holds and has not spent.
    """

    granted: int
    others: int
    unspent: dict[str, int]


class Table:
    """The table, as one task sees it.

    Args:
        task: name of this task, which no other has.
    """

    def __init__(self, name: str, task: str) -> None:
        self.task = task
        self._name = name
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                import boto3  # imported here because it takes 25 MB, which most installations do not need
                from botocore.config import Config

                self._made = boto3.client(
                    "dynamodb",
                    config=Config(
                        connect_timeout=1,
                        read_timeout=1,
                        retries={"total_max_attempts": 2, "mode": "standard"},
                    ),
                )
            return self._made

    def beat(self, now: float) -> set[str]:
        """Notes that this task lives, and returns the tasks that do."""
        client = self._client
        until = _number(math.ceil(now) + LIVE_SECONDS)
        item = {**_key("task", self.task), "until": until, "expires": _number(math.ceil(now) + _DAY)}
        client.put_item(TableName=self._name, Item=item)
        found = self._query("task", "")
        return {item["sk"]["S"] for item in found if int(item["until"]["N"]) > now}

    def leave(self) -> None:
        """Notes that this task has ended."""
        self._client.delete_item(TableName=self._name, Key=_key("task", self.task))

    def lease(self, terms: Terms) -> Lease:
        """Takes units of a limit, or returns them, and notes what was spent.

        What has been spent is noted in any case, so a task that went beyond its lease may exceed the limit.
        """
        granted, wanted = terms.granted, terms.wanted
        for attempt in range(_TRIES):
            if attempt == _TRIES - 1:
                wanted = min(wanted, max(granted, terms.spent))  # others take units all the time
            found, done = self._change(terms, granted, wanted)
            mine, taken = _count(found, f"g#{self.task}"), _count(found, "taken")
            if done:
                return Lease(mine, taken - mine, _unspent(found, self.task))
            if mine != granted:
                # Another task took this one for dead, or an attempt succeeded whose answer was lost.
                granted = mine
            else:
                left = max(0, terms.limit - taken)
                wanted = max(granted + min(wanted - granted, left), terms.spent)
        raise TimeoutError(f"the limit of {terms.key} changed {_TRIES} times while it was leased")

    def _change(self, terms: Terms, granted: int, wanted: int) -> tuple[dict[str, Any], bool]:
        """Returns the item, and whether it was changed."""
        more = wanted - granted
        mine = f"#g = :granted{' OR attribute_not_exists(#g)' if not granted else ''}"
        fits = ""
        values = {
            ":more": _number(more), ":granted": _number(granted), ":wanted": _number(wanted),
            ":spent": _number(terms.spent), ":none": _number(0),
            ":expires": _number(int(terms.ends) + 2 * _DAY),
        }  # fmt: skip
        if more > 0 and wanted > terms.spent:
            values[":most"] = _number(terms.limit - more)
            exists = " OR attribute_not_exists(taken)" if more <= terms.limit else ""
            fits = f" AND (taken <= :most{exists})"
        try:
            answer = self._client.update_item(
                TableName=self._name,
                Key=_key(f"limit#{terms.key}", f"{terms.unit}#{terms.window}"),
                UpdateExpression="SET taken = if_not_exists(taken, :none) + :more, "
                "#g = :wanted, #s = :spent, expires = :expires",
                ConditionExpression=f"({mine}){fits}",
                ExpressionAttributeNames={"#g": f"g#{self.task}", "#s": f"s#{self.task}"},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as error:
            return error.response.get("Item", {}), False
        return answer["Attributes"], True

    def reclaim(self, terms: Terms, task: str, now: float) -> bool:
        """Returns what a dead task held, and whether it was dead."""
        client = self._client
        beat = client.get_item(TableName=self._name, Key=_key("task", task), ConsistentRead=True).get("Item")
        if beat and int(beat["until"]["N"]) > now:
            return False
        key = _key(f"limit#{terms.key}", f"{terms.unit}#{terms.window}")
        item = client.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item", {})
        held, spent = _count(item, f"g#{task}"), _count(item, f"s#{task}")
        try:
            client.update_item(
                TableName=self._name,
                Key=key,
                UpdateExpression="SET taken = taken - :held, #g = :spent",
                ConditionExpression="#g = :granted AND #s = :spent",
                ExpressionAttributeNames={"#g": f"g#{task}", "#s": f"s#{task}"},
                ExpressionAttributeValues={
                    ":held": _number(held - spent), ":granted": _number(held), ":spent": _number(spent)
                },
            )  # fmt: skip
        except client.exceptions.ConditionalCheckFailedException:
            return False  # another task was faster
        return True

    def store(self, rows: Iterable[tuple[RowKey, Use]]) -> None:
        """Stores this task's rows of usage, each in full."""
        puts = [{"PutRequest": {"Item": self._usage_item(key, use)}} for key, use in rows]
        for start in range(0, len(puts), _BATCH):
            batch = puts[start : start + _BATCH]
            for _ in range(_TRIES):
                answer = self._client.batch_write_item(RequestItems={self._name: batch})
                batch = answer.get("UnprocessedItems", {}).get(self._name, [])
                if not batch:
                    break
            else:
                raise TimeoutError(f"the table {self._name} did not accept {len(batch)} rows of usage")

    def _usage_item(self, key: RowKey, use: Use) -> dict[str, Any]:
        day, name, model = key
        place = hashlib.sha256(model.encode()).hexdigest()[:16]
        ends = (_days(day) + _KEEP_USAGE_DAYS) * _DAY
        counts = {field: _number(value) for field, value in asdict(use).items()}
        return {
            **_key(f"usage#{day}", f"{name}#{self.task}#{place}"),
            "key": {"S": name}, "model": {"S": model}, "expires": _number(ends), **counts,
        }  # fmt: skip

    def usage(self, days: Iterable[str], key: str | None) -> dict[RowKey, Use]:
        """Returns the rows of some days, of one key or of all, over all tasks."""
        rows: dict[RowKey, Use] = {}
        for day in days:
            for item in self._query(f"usage#{day}", f"{key}#" if key else ""):
                counts = {field.name: _value(item.get(field.name)) for field in fields(Use)}
                counts["engine_seconds"] = float(counts["engine_seconds"])
                place = (day, item["key"]["S"], item["model"]["S"])
                rows.setdefault(place, Use()).add(Use(**counts))
        return rows

    def _query(self, pk: str, prefix: str) -> list[dict[str, Any]]:
        condition, values = "pk = :pk", {":pk": {"S": pk}}
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = {"S": prefix}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        return [item for page in pages for item in page["Items"]]


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _number(value: float) -> dict[str, str]:
    return {"N": str(value if isinstance(value, int) else Decimal(str(round(value, 6))))}


def _value(attribute: dict[str, str] | None) -> Any:
    """Returns the number in an attribute; rows of another version may lack it."""
    text = attribute["N"] if attribute else "0"
    return float(text) if "." in text or "E" in text else int(text)


def _count(item: dict[str, Any], name: str) -> int:
    return int(item[name]["N"]) if name in item else 0


def _unspent(item: dict[str, Any], task: str) -> dict[str, int]:
    """Returns what each other task holds and has not spent."""
    found = {}
    for name in item:
        other = name[2:]
        if name.startswith("g#") and other != task:
            unspent = _count(item, name) - _count(item, f"s#{other}")
            if unspent > 0:
                found[other] = unspent
    return found


def _days(day: str) -> int:
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // _DAY
