"""Following the logs of both tiers."""

from __future__ import annotations

from typing import Any

import pytest

from ops import logs
from tests.ops.doctor.test_running import services
from tests.ops.scripted_aws import Answer, account


class Stop(Exception):
    """Ends the following."""


def test_collector_beside_the_orchestrator_is_not_a_tier() -> None:
    def container(name: str, *, essential: bool) -> dict[str, Any]:
        options = {"awslogs-group": f"/{name}"}
        logging = {"logDriver": "awslogs", "options": options}
        return {"name": name, "essential": essential, "logConfiguration": logging}

    containers = [container("collector", essential=False), container("service", essential=True)]
    answers: dict[str, Answer] = {
        **services({"taskDefinition": "engine:1"}),
        "ecs.DescribeServices": lambda given: {
            "services": [{"serviceName": given["services"][0], "taskDefinition": "one:1"}]
        },
        "ecs.DescribeTaskDefinition": {"taskDefinition": {"containerDefinitions": containers}},
    }
    assert logs.groups(account(answers)) == {"engine": "/service", "orchestrator": "/service"}


def test_followed_lines_come_once_in_order_and_late_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = [{"eventId": "1", "timestamp": 1000, "message": "ERROR first"}]
    starts: list[int] = []

    def answer(given: Any) -> Any:
        starts.append(given["startTime"])
        return {"events": events if given["logGroupName"] == "engine" else []}

    looks = 0

    def pause() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            events.append({"eventId": "3", "timestamp": 3000, "message": "ERROR third"})
            events.append({"eventId": "2", "timestamp": 2000, "message": "ERROR second, delivered late"})
        if looks == 3:
            raise Stop

    monkeypatch.setattr(logs, "groups", lambda _account: {"engine": "engine", "orchestrator": "orchestrator"})
    found = []

    def read() -> None:
        for entry in logs.follow(account({"logs.FilterLogEvents": answer}), since=3600, pause=pause):
            found.append(entry.text)

    with pytest.raises(Stop):
        read()
    assert found == ["ERROR first", "ERROR second, delivered late", "ERROR third"]
    assert starts[-1] - starts[0] > 3_500_000  # later looks do not read the whole hour again
