"""What doctor reports about a start of the engine: the step that it is in, and the last one's seconds."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine_start.steps import ORDER
from ops.doctor import engine_start
from ops.report import Status
from tests.ops.scripted_aws import Answer, account

from .expectations import expect
from .test_running import OUTPUTS, services

NOW = datetime.now(UTC)
LAST = {"instance": 70.0, "image": 80.0, "process": 20.0, "weights": 30.0, "compile": 40.0, "warm_up": 10.0}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def line(before: float, stream: str = "vllm/engine/one", **entry: Any) -> dict[str, Any]:
    """An event of the engine's log, as `engine_start` writes it."""
    at = int(ago(before).timestamp() * 1000)
    return {"timestamp": at, "logStreamName": stream, "message": json.dumps(entry), "eventId": str(at)}


def answers(tasks: list[dict[str, Any]], *events: dict[str, Any]) -> dict[str, Answer]:
    """An account with these tasks of the engine, and these events in its log."""
    options = {"logDriver": "awslogs", "options": {"awslogs-group": "/tandem/engine"}}
    task = {"containerDefinitions": [{"logConfiguration": options}]}

    def filtered(given: Any) -> Any:
        wanted = given["filterPattern"].split('"')[1]
        return {
            "events": [
                one
                for one in events
                if json.loads(one["message"])["event"] == wanted and one["timestamp"] >= given["startTime"]
            ]
        }

    described = services({"taskDefinition": "engine:1"})
    one_by_one = described["ecs.DescribeServices"]["services"]  # type: ignore[index]
    for one in one_by_one:
        one.setdefault("taskDefinition", "orchestrator:1")

    def service(given: Any) -> Any:
        return {"services": [one for one in one_by_one if one["serviceName"] in given["services"]]}

    return {
        **described,
        "ecs.DescribeServices": service,
        "ecs.ListTasks": {"taskArns": [one["taskArn"] for one in tasks]},
        "ecs.DescribeTasks": {"tasks": tasks},
        "ecs.DescribeTaskDefinition": {"taskDefinition": task},
        "logs.FilterLogEvents": filtered,
    }


def task(**facts: Any) -> dict[str, Any]:
    arn = "arn:aws:ecs:us-east-1:1:task/tandem-cluster/one"
    return {"taskArn": arn, "createdAt": ago(300), "healthStatus": "UNKNOWN", **facts}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", NOW.timestamp)


PULLED = {"pullStartedAt": ago(200), "pullStoppedAt": ago(100)}
STARTED = line(90_000, event="engine_start", seconds=LAST, total_seconds=250.0)


def test_steps_are_those_that_the_engine_reports() -> None:
    assert tuple(engine_start.STEPS) == ORDER


@pytest.mark.parametrize(
    ("facts", "lines", "found"),
    [
        ({}, [], "an instance starts, for 300 s (last time 70 s); about 180 s are left"),
        (
            {"pullStartedAt": ago(50)},
            [],
            "the image is pulled, for 50 s (last time 80 s); about 130 s are left",
        ),
        (PULLED, [], "vLLM is imported, for 100 s (last time 20 s); about 80 s are left"),
        (
            PULLED,
            [line(60, event="engine_step", step="process"), line(15, event="engine_step", step="weights")],
            "the weights are loaded, for 15 s (last time 30 s); about 65 s are left",
        ),
        (
            PULLED,
            [
                line(40, event="engine_step", step="copy"),
                line(5, event="engine_step", step="copy", bytes=3e9, of_bytes=15e9),
            ],
            "the weights are copied to the disk, for 40 s, 3.0 of 15.0 GB",
        ),
        (
            PULLED,
            [
                line(30, event="engine_step", step="weights"),
                line(10, "vllm/engine/other", event="engine_step", step="warm_up"),
            ],
            "the weights are loaded, for 30 s",
        ),
    ],
)
def test_step_of_a_start(facts: dict[str, Any], lines: list[dict[str, Any]], found: str) -> None:
    scripted = account(answers([task(**facts)], STARTED, *lines))
    start, last = engine_start.check_engine_start(scripted)
    assert start.found.startswith(found)
    expect(
        last,
        Status.OK,
        "250 s: instance 70 s, image 80 s, process 20 s, weights 30 s, compile 40 s, warm-up 10 s",
    )


def test_step_that_takes_much_longer_than_last_time_is_a_warning() -> None:
    lines = [line(400, event="engine_step", step="weights")]
    slow, _ = engine_start.check_engine_start(
        account(answers([task(createdAt=ago(600), **PULLED)], STARTED, *lines))
    )
    expect(slow, Status.WARNING, "the weights are loaded, for 400 s (last time 30 s)", "make logs")
    lines = [line(40, event="engine_step", step="weights")]
    fine, _ = engine_start.check_engine_start(account(answers([task(**PULLED)], STARTED, *lines)))
    expect(fine, Status.OK, "the weights are loaded")


def test_engine_that_runs_or_sleeps_shows_its_last_start() -> None:
    for tasks in ([task(healthStatus="HEALTHY", **PULLED)], []):
        (result,) = engine_start.check_engine_start(account(answers(tasks, STARTED)))
        expect(result, Status.OK, "the last one took 250 s")


def test_first_start_has_nothing_to_compare_with() -> None:
    start, last = engine_start.check_engine_start(account(answers([task()])))
    expect(start, Status.OK, "an instance starts, for 300 s")
    assert "last time" not in start.found
    assert "are left" not in start.found
    expect(last, Status.OK, "no start in the last 7 days")


def test_starts_of_each_model_have_its_name() -> None:
    """Each has a cluster and a log of its own."""
    outputs = {**OUTPUTS, "ClusterNameSmall": "small-cluster", "EngineServiceSmall": "small-engine"}
    described = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]

    def stacks(given: Any) -> Any:
        status = {"StackStatus": "CREATE_COMPLETE", "CreationTime": NOW, "Description": "Tandem: x"}
        return {"Stacks": [{"StackName": given["StackName"], "Outputs": described, **status}]}

    def of_cluster(given: Any) -> Any:
        arn = "arn:aws:ecs:us-east-1:1:task/cluster/one"
        return {"taskArns": [arn] if given["cluster"] == "small-cluster" else []}

    def service(given: Any) -> Any:
        return {"services": [{"serviceName": name, "taskDefinition": name} for name in given["services"]]}

    def definition(given: Any) -> Any:
        options = {"awslogs-group": f"/log/{given['taskDefinition']}"}
        logging = {"logDriver": "awslogs", "options": options}
        return {"taskDefinition": {"containerDefinitions": [{"logConfiguration": logging}]}}

    def events(given: Any) -> Any:
        starts = "engine_start" in given["filterPattern"] and given["logGroupName"] == "/log/small-engine"
        return {"events": [STARTED] if starts else []}

    scripted = account(
        {
            "cloudformation.DescribeStacks": stacks,
            "ecs.ListTasks": of_cluster,
            "ecs.DescribeTasks": {"tasks": [task(createdAt=ago(100))]},
            "ecs.DescribeServices": service,
            "ecs.DescribeTaskDefinition": definition,
            "logs.FilterLogEvents": events,
        },
        models={"main": {}, "small": {"id": "Qwen/Qwen2.5-0.5B-Instruct"}},
    )
    main, starting, small = engine_start.check_engine_start(scripted)
    expect(main, Status.OK, "engine of main: no start in the last 7 days")
    expect(starting, Status.OK, "engine of small: an instance starts, for 100 s (last time 70 s)")
    expect(small, Status.OK, "engine of small: the last one took 250 s")
