"""The command line: exit statuses, errors without access to AWS, JSON, and text at 80 columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from typer.testing import CliRunner

import ops.__main__ as commands
from infra.deployment.catalog import HOURS_PER_MONTH, load_catalog
from infra.deployment.cost import gpu_usd_per_hour
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops import command_line, cost, deploy, doctor, keys, logs, machine_image
from ops.account import Failed, NoAccess, NotAllowed, translated
from ops.report import Result, Status, show, worst
from tests.ops.scripted_aws import Refused, ScriptedAccount, account

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(ROOT)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(commands.app, list(arguments))


@pytest.mark.parametrize(
    "command", [["doctor"], ["keys", "list"], ["smoke"], ["logs"], ["rollback"], ["destroy", "--yes"]]
)
def test_without_a_region_or_credentials_the_error_says_how_to_set_them(command: list[str]) -> None:
    without_region = run(*command)
    assert without_region.exit_code == 3
    assert "AWS_REGION" in without_region.stderr


def test_without_credentials_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    result = run("keys", "create", "alice")
    assert result.exit_code == 3
    assert "no AWS credentials found" in result.stderr
    assert result.stdout == ""


def test_invalid_deployment_file_exits_with_2(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("modl: {}\n")
    result = run("cost", "--deployment", str(file))
    assert result.exit_code == 2
    assert "modl" in result.stderr


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("ExpiredToken", NoAccess, "expired"),
        ("InvalidClientTokenId", NoAccess, "rejects these credentials"),
        ("AccessDenied", NotAllowed, "ecs:DescribeServices"),
    ],
)
def test_aws_errors_are_translated(code: str, kind: type[Exception], message: str) -> None:
    denied = "User x is not authorized to perform: ecs:DescribeServices on resource: *"
    one = account({"ecs.ListClusters": Refused(code, denied)})
    with pytest.raises(kind, match=message), translated():
        one.client("ecs").list_clusters()


def test_unreachable_network_raises_no_access_error() -> None:
    with pytest.raises(NoAccess, match="cannot be reached"), translated():
        raise EndpointConnectionError(endpoint_url="https://ecs.us-east-1.amazonaws.com")


def test_interrupted_command_describes_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "Account", interrupted)
    result = run("keys", "revoke", "alice")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert "The key may or may not be revoked" in result.stderr


@pytest.mark.parametrize("command", ["deploy", "destroy"])
def test_nothing_is_in_progress_before_the_command_has_started(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def without_region(*_: Any) -> Any:
        raise NoAccess("no region is set")

    monkeypatch.setattr(command_line, "Account", without_region)
    result = run(command, "--yes", "--json")
    assert result.exit_code == 3
    assert "Nothing was changed" in result.stderr
    assert "CloudFormation" not in result.stderr
    assert json.loads(result.stdout) == {"error": "no region is set\nNothing was changed."}


def test_interrupted_deployment_says_what_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "Account", lambda _plan: account({}))
    monkeypatch.setattr(doctor, "doctor", lambda *_args, **_options: [])
    monkeypatch.setattr(machine_image, "pin", lambda *_: None)
    monkeypatch.setattr(deploy, "deploy", interrupted)
    result = run("deploy", "--yes")
    assert result.exit_code == 130
    assert "CloudFormation continues on its own" in result.stderr


def test_deployment_file_can_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "staging.yaml"
    file.write_text("modl: {}\n")
    monkeypatch.setenv("DEPLOYMENT", str(file))
    result = run("cost")
    assert result.exit_code == 2
    assert "staging.yaml:1: modl" in result.stderr


def test_failed_check_exits_with_1_and_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "Account", lambda _plan: account({}))
    results = [Result(Status.ERROR, "x", "y", "z")]
    monkeypatch.setattr(doctor, "doctor", lambda _account, certificate: results)
    plain, as_json = run("doctor"), run("doctor", "--json")
    assert plain.exit_code == as_json.exit_code == 1
    body = json.loads(as_json.stdout)
    assert body["results"] == [{"status": "error", "subject": "x", "found": "y", "fix": "z"}]


RESULTS = [
    Result(Status.OK, "credentials", "arn:aws:sts::123456789012:assumed-role/a-long-role-name/session, account 123456789012"),  # noqa: E501
    Result(Status.ERROR, "GPU quota", "0 vCPU", "aws service-quotas request-service-quota-increase --region us-east-1 "  # noqa: E501
         "--service-code ec2 --quota-code L-DB2E81BA --desired-value 4"),
    Result(Status.UNKNOWN, "CodeBuild quota", "not checked: no permission for servicequotas:ListServiceQuotas", "allow it"),  # noqa: E501
]  # fmt: skip


def test_text_without_a_terminal_has_80_columns_no_colours_and_unbroken_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("tandem in us-east-1", RESULTS, as_json=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    shown_commands = [line for line in out.splitlines() if line.startswith("  →")]
    assert shown_commands[0].strip("→ ") == RESULTS[1].fix
    assert all(len(line.rstrip()) <= 80 for line in out.splitlines() if not line.startswith("  →"))
    assert [line[0] for line in out.splitlines() if line[:1] in "✓✗?!"] == ["✓", "✗", "?"]


def test_worst_status() -> None:
    assert worst(RESULTS) is Status.ERROR
    assert worst([]) is Status.OK


PRODUCT = {
    "product": {"attributes": {"instanceType": "g5.xlarge"}},
    "terms": {
        "OnDemand": {"a.b": {"priceDimensions": {"a.b.c": {"unit": "Hrs", "pricePerUnit": {"USD": "1.1230000000"}}}}},  # noqa: E501
        "Reserved": {"r": {"priceDimensions": {"r.1": {"unit": "Quantity", "pricePerUnit": {"USD": "5000"}}}}},  # noqa: E501
    },
}  # fmt: skip
FREE = {
    "terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"unit": "Hrs", "pricePerUnit": {"USD": "0"}}}}}}
}


def test_live_price_is_on_demand_per_hour() -> None:
    answers = {"pricing.GetProducts": {"PriceList": [json.dumps(FREE), json.dumps(PRODUCT)]}}
    one: ScriptedAccount = account(answers)
    assert cost.live_prices(one) == {"g5.xlarge": 1.123}
    _, asked = one.aws.calls[0]
    wanted = {entry["Field"]: entry["Value"] for entry in asked["Filters"]}
    assert wanted["regionCode"] == "us-east-1"
    plan = cost.with_prices(one.plan, {"g5.xlarge": 2.0})
    assert cost.alternatives(plan)[0].usd - cost.alternatives(one.plan)[0].usd == pytest.approx(
        (2 - 1.006) * 730
    )


def test_live_spot_price_is_that_of_the_dearest_zone() -> None:
    history = [
        {"InstanceType": "g5.xlarge", "AvailabilityZone": zone, "SpotPrice": price}
        for zone, price in (("us-east-1a", "0.300000"), ("us-east-1b", "0.400000"))
    ]
    one = account({"ec2.DescribeSpotPriceHistory": {"SpotPriceHistory": history}}, gpu__capacity="spot")
    share = cost.live_spot_share(one, {"g5.xlarge": 1.6})
    assert share == pytest.approx(0.25)
    plan = cost.with_prices(one.plan, {"g5.xlarge": 1.6}, spot_share=share)
    assert gpu_usd_per_hour(plan) == pytest.approx(0.4)
    none = account({"ec2.DescribeSpotPriceHistory": {"SpotPriceHistory": []}})
    assert cost.live_spot_share(none, {"g5.xlarge": 1.6}) is None


def test_costs_of_alternatives_add_up() -> None:
    plan = Plan(Deployment(), load_catalog())
    found = {one.change: one.usd for one in cost.alternatives(plan)}
    now = found.pop("unchanged")
    gpu = 1.006 * HOURS_PER_MONTH
    # 60 of 168 hours, of the instance and of its volume; the last 1.5 are alarms that scale.
    assert found[cost.NIGHTS_OFF_NAME] == pytest.approx(now - (gpu + 8) * 108 / 168, abs=1)
    assert found["gpu.min_replicas: 0"] == pytest.approx(now - gpu - 8 + 1.006 * 130 + 1.5, abs=0.6)
    assert found["gpu.replicas: 2"] > now + gpu - 1
    assert found["gpu.capacity: spot"] < now


@pytest.mark.parametrize(
    ("gpu", "settings"),
    [
        ({"max_replicas": 3}, {"gpu.max_replicas: 4", "gpu.min_replicas: 0"}),
        ({"min_replicas": 0, "max_replicas": 3}, {"gpu.max_replicas: 4"}),
        ({"replicas": 2}, {"gpu.replicas: 3", "gpu.min_replicas: 0"}),
        ({"min_replicas": 0}, {"gpu.max_replicas: 2"}),
    ],
)
def test_alternatives_keep_the_form_of_the_file(gpu: dict[str, int], settings: set[str]) -> None:
    plan = Plan(Deployment.model_validate({"gpu": gpu}), load_catalog())
    changes = {one.change for one in cost.alternatives(plan)}
    assert {one for one in changes if "replicas" in one} == settings


def test_each_of_several_models_has_alternatives_under_its_own_name() -> None:
    models = {"main": {"max_replicas": 3}, "small": {"id": "Qwen/Qwen2.5-0.5B-Instruct", "min_replicas": 0}}
    plan = Plan(Deployment.model_validate({"models": models}), load_catalog())
    first, *others = cost.alternatives(plan)
    assert (first.change, first.meaning) == ("unchanged", "3 x g5.xlarge, 1 x g5.xlarge")
    found = {one.change: one.usd for one in others}
    assert {one for one in found if "replicas" in one} == {
        "models.main.max_replicas: 4", "models.main.min_replicas: 0", "models.small.max_replicas: 2",
    }  # fmt: skip
    assert found["models.main.capacity: spot"] < first.usd
    assert found["models.small.capacity: spot"] == pytest.approx(first.usd)  # none runs while nobody asks
    assert "models.small.schedule: nights and weekends off" in found


def test_live_prices_are_those_of_every_model() -> None:
    models = {"main": {}, "small": {"id": "Qwen/Qwen2.5-0.5B-Instruct", "instance_types": ["g6.xlarge"]}}
    answers = {"pricing.GetProducts": {"PriceList": [json.dumps(PRODUCT)]}}
    assert set(cost.live_prices(account(answers, models=models))) == {"g5.xlarge", "g6.xlarge"}


def test_schedule_that_is_there_already_is_not_offered() -> None:
    deployment = Deployment().with_setting("gpu.schedule", cost.NIGHTS_OFF)
    found = {one.change: one.usd for one in cost.alternatives(Plan(deployment, load_catalog()))}
    assert cost.NIGHTS_OFF_NAME not in found
    default = {one.change: one.usd for one in cost.alternatives(Plan(Deployment(), load_catalog()))}
    assert found["unchanged"] == default[cost.NIGHTS_OFF_NAME]


def test_cost_without_credentials_uses_the_catalogue() -> None:
    result = run("cost", "--json")
    assert result.exit_code == 0
    assert "prices of" in json.loads(result.stdout)["source"]
    assert "Live prices are unavailable" in result.stderr


def event(time: float, text: str) -> dict[str, Any]:
    return {"timestamp": int(time * 1000), "message": text}


def test_log_lines_of_one_request_are_grouped() -> None:
    request = "0123456789abcdef0123456789abcdef"
    line = {
        "time": 2,
        "level": "error",
        "message": "request",
        "request_id": request,
        "status": 502,
        "error": "broke",
    }
    entries = [
        logs.entry("engine", event(1, f"ERROR chatcmpl-{request} failed")),
        logs.entry("orchestrator", event(3, json.dumps(line))),
        logs.entry("engine", event(2, "WARNING something else")),
    ]
    found = logs.joined(entries)
    assert [one.request_id for one in found] == [request, request, None]
    assert found[1].text == "error request status=502, error=broke"
    assert logs.clock(0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(("since", "expected"), [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800)])
def test_period(since: str, expected: int) -> None:
    assert logs.seconds(since) == expected


def test_invalid_period() -> None:
    with pytest.raises(Failed, match="90s, 15m, 1h, 2d"):
        logs.seconds("yesterday")


def test_keys_print_json_or_only_the_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    document: dict[str, Any] = {}

    class Store:
        def __init__(self, _account: object) -> None: ...

        def change(self, edit: Any) -> Any:
            document.update(edit(dict(document)))
            return document

    monkeypatch.setattr(command_line, "Account", lambda _plan: account({}))
    monkeypatch.setattr(keys, "KeyStore", Store)
    alone = run("keys", "create", "alice").stdout
    assert alone.startswith("sk-")
    assert alone.count("\n") == 1
    rotated = json.loads(run("keys", "rotate", "alice", "--json").stdout)
    assert rotated["name"] == "alice"
    assert rotated["key"].startswith("sk-")
    assert json.loads(run("keys", "rotate", "alice", "--finish", "--json").stdout) == {
        "name": "alice",
        "key": None,
    }
    assert json.loads(run("keys", "set", "alice", "--tokens-per-day", "2M", "--json").stdout) == {
        "name": "alice",
        "limits": {"tokens_per_day": 2_000_000},
    }
    invalid = run("keys", "set", "alice", "--tokens-per-day", "much")
    assert (invalid.exit_code, "give a positive number" in invalid.stderr) == (1, True)
    assert json.loads(run("keys", "revoke", "alice", "--json").stdout) == {"name": "alice", "key": None}
