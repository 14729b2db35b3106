"""Leases and usage in the table: never more than the limit, nothing counted twice, nothing left behind."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.limits.table import LIVE_SECONDS, Table, Terms
from orchestrator.limits.usage import Use

from .shared_table import NAME

NOW = 1_800_000_000.0


def table(task: str) -> Table:
    return Table(NAME, task)


def terms(*, granted: int = 0, wanted: int, spent: int = 0, limit: int = 100) -> Terms:
    return Terms("alice", "tokens", 20_833, NOW + 100, limit, granted, wanted, spent)


def item(dynamodb: Any) -> dict[str, int]:
    key = {"pk": {"S": "limit#alice"}, "sk": {"S": "tokens#20833"}}
    found = dynamodb.get_item(TableName=NAME, Key=key)["Item"]
    return {name: int(value["N"]) for name, value in found.items() if "N" in value and name != "expires"}


def test_tasks_take_slices_until_the_limit(dynamodb: Any) -> None:
    one, two = table("one"), table("two")
    assert one.lease(terms(wanted=60)).granted == 60
    second = two.lease(terms(wanted=60))
    assert (second.granted, second.others, second.unspent) == (40, 60, {"one": 60})
    assert two.lease(terms(granted=40, wanted=50, spent=10)).granted == 40
    assert item(dynamodb) == {"taken": 100, "g#one": 60, "s#one": 0, "g#two": 40, "s#two": 10}


def test_units_are_returned(dynamodb: Any) -> None:
    one, two = table("one"), table("two")
    one.lease(terms(wanted=100))
    one.lease(terms(granted=100, wanted=30, spent=30))
    assert two.lease(terms(wanted=80)).granted == 70
    assert item(dynamodb)["taken"] == 100


def test_what_was_spent_is_noted_beyond_the_limit(dynamodb: Any) -> None:
    one, two = table("one"), table("two")
    one.lease(terms(wanted=100))
    lease = two.lease(terms(wanted=25, spent=5))
    assert lease.granted == 5
    assert item(dynamodb)["taken"] == 105


def test_limit_smaller_than_what_is_wanted(dynamodb: Any) -> None:
    assert table("one").lease(terms(wanted=60, limit=20)).granted == 20
    assert item(dynamodb)["taken"] == 20


def test_repeated_lease_is_counted_once(dynamodb: Any) -> None:
    """The answer of the first attempt was lost."""
    one = table("one")
    one.lease(terms(wanted=20))
    assert one.lease(terms(wanted=20)).granted == 20
    assert item(dynamodb)["taken"] == 20


def test_units_of_a_dead_task_return_except_for_what_it_spent(dynamodb: Any) -> None:
    one, two = table("one"), table("two")
    one.beat(NOW)
    one.lease(terms(wanted=60, spent=15))
    assert not two.reclaim(terms(wanted=0), "one", NOW + LIVE_SECONDS - 1)
    assert two.reclaim(terms(wanted=0), "one", NOW + LIVE_SECONDS + 1)
    assert two.reclaim(terms(wanted=0), "one", NOW + LIVE_SECONDS + 1)
    assert item(dynamodb)["taken"] == 15
    # It was not dead after all.
    assert one.lease(terms(granted=60, wanted=70, spent=40)).granted == 70
    assert item(dynamodb) == {"taken": 70, "g#one": 70, "s#one": 40}


@pytest.mark.parametrize("seed", range(3))
def test_taken_is_the_sum_of_what_tasks_have(dynamodb: Any, seed: int) -> None:
    choose = random.Random(seed)
    tasks = {name: table(name) for name in "abc"}
    granted, spent = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0)
    for _ in range(60):
        name = choose.choice("abc")
        spent[name] = min(granted[name], spent[name] + choose.randrange(4))
        wanted = max(spent[name], granted[name] + choose.randrange(-10, 15))
        granted[name] = (
            tasks[name].lease(terms(granted=granted[name], wanted=wanted, spent=spent[name])).granted
        )
        found = item(dynamodb)
        assert found["taken"] == sum(granted.values()) <= 100
        assert {name: found.get(f"g#{name}", 0) for name in tasks} == granted


def test_live_tasks(dynamodb: Any) -> None:
    one, two = table("one"), table("two")
    assert one.beat(NOW) == {"one"}
    assert two.beat(NOW + 30) == {"one", "two"}
    assert two.beat(NOW + LIVE_SECONDS + 1) == {"two"}
    two.leave()
    assert one.beat(NOW) == {"one"}


def test_usage_of_all_tasks_is_added(dynamodb: Any) -> None:
    one, two = table("one"), table("two")
    monday, tuesday = ("2026-11-23", "alice", "m"), ("2026-11-24", "alice", "m")
    one.store([(monday, Use(1, 10, 2, 0, 1, 0.5, 0)), (tuesday, Use(requests=7))])
    one.store([(monday, Use(2, 20, 4, 8, 1, 1.25, 1))])
    two.store([(monday, Use(1, 1, 1)), (("2026-11-23", "bob", "n"), Use(requests=3))])
    assert one.usage(["2026-11-23", "2026-11-24"], "alice") == {
        monday: Use(3, 21, 5, 8, 1, 1.25, 1),
        tuesday: Use(requests=7),
    }
    assert set(one.usage(["2026-11-23"], None)) == {monday, ("2026-11-23", "bob", "n")}
    assert one.usage(["2026-11-23"], "ali") == {}


def test_many_rows(dynamodb: Any) -> None:
    rows = [(("2026-11-23", f"key-{number}", "m" * 300), Use(requests=1)) for number in range(60)]
    table("one").store(rows)
    assert table("two").usage(["2026-11-23"], None) == dict(rows)


def test_rows_and_limits_expire(dynamodb: Any) -> None:
    one = table("one")
    one.beat(NOW)
    one.lease(terms(wanted=1))
    one.store([(("2026-11-23", "alice", "m"), Use())])
    items = dynamodb.scan(TableName=NAME)["Items"]
    assert len(items) == 3
    assert all(int(item["expires"]["N"]) > NOW for item in items)
