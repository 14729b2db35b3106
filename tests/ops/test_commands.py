"""The command line: exit statuses, what is told when AWS cannot be asked, JSON, and texts at 80 columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from typer.testing import CliRunner

import ops.__main__ as commands
from infra.deployment.catalog import HOURS_PER_MONTH, load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops import cost, keys, logs
from ops.account import Failed, NoAccess, NotAllowed, translated
from ops.report import Mark, Result, show, worst
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


@pytest.mark.parametrize("command", [["doctor"], ["keys", "list"], ["smoke"], ["logs"], ["destroy", "--yes"]])
def test_without_a_region_or_credentials_it_says_how_to_get_them(command: list[str]) -> None:
    without_region = run(*command)
    assert without_region.exit_code == 3
    assert "AWS_REGION" in without_region.stderr


def test_without_credentials_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    result = run("keys", "create", "alice")
    assert result.exit_code == 3
    assert "there are no AWS credentials" in result.stderr
    assert result.stdout == ""


def test_deployment_file_that_cannot_be_used_is_a_2(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("modl: {}\n")
    result = run("cost", "--deployment", str(file))
    assert result.exit_code == 2
    assert "modl" in result.stderr


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("ExpiredToken", NoAccess, "expired"),
        ("InvalidClientTokenId", NoAccess, "does not know these credentials"),
        ("AccessDenied", NotAllowed, "ecs:DescribeServices"),
    ],
)
def test_errors_of_aws_become_what_they_mean(code: str, kind: type[Exception], says: str) -> None:
    message = "User x is not authorized to perform: ecs:DescribeServices on resource: *"
    one = account({"ecs.ListClusters": Refused(code, message)})
    with pytest.raises(kind, match=says), translated():
        one.client("ecs").list_clusters()


def test_network_that_is_gone_is_no_access() -> None:
    with pytest.raises(NoAccess, match="cannot be reached"), translated():
        raise EndpointConnectionError(endpoint_url="https://ecs.us-east-1.amazonaws.com")


def test_interrupted_command_says_how_things_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "Account", interrupted)
    result = run("keys", "revoke", "alice")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert "the key holds, or does not any more" in result.stderr
    deployed = run("deploy", "--yes")
    assert deployed.exit_code == 130
    assert "CloudFormation goes on by itself" in deployed.stderr


def test_failed_check_is_a_1_and_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "Account", lambda _plan: account({}))
    monkeypatch.setattr(
        "ops.doctor.doctor", lambda _account, certificate: [Result(Mark.WRONG, "x", "y", "z")]
    )
    plain, as_json = run("doctor"), run("doctor", "--json")
    assert plain.exit_code == as_json.exit_code == 1
    told = json.loads(as_json.stdout)
    assert told["results"] == [{"mark": "wrong", "subject": "x", "found": "y", "fix": "z"}]


LINES = [
    Result(Mark.OK, "credentials", "arn:aws:sts::123456789012:assumed-role/a-long-role-name/session, account 123456789012"),  # noqa: E501
    Result(Mark.WRONG, "GPU quota", "0 vCPU", "aws service-quotas request-service-quota-increase --region us-east-1 "  # noqa: E501
         "--service-code ec2 --quota-code L-DB2E81BA --desired-value 4"),
    Result(Mark.UNKNOWN, "CodeBuild quota", "not looked at: no permission for servicequotas:ListServiceQuotas", "allow it"),  # noqa: E501
]  # fmt: skip


def test_text_without_a_terminal_has_80_columns_no_colours_and_commands_in_one_piece(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("tandem in us-east-1", LINES, as_json=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    commands_told = [line for line in out.splitlines() if line.startswith("  →")]
    assert commands_told[0].strip("→ ") == LINES[1].fix
    assert all(len(line.rstrip()) <= 80 for line in out.splitlines() if not line.startswith("  →"))
    assert [line[0] for line in out.splitlines() if line[:1] in "✓✗?!"] == ["✓", "✗", "?"]


def test_worst_mark() -> None:
    assert worst(LINES) is Mark.WRONG
    assert worst([]) is Mark.OK


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


def test_live_price_is_the_one_on_demand_by_the_hour() -> None:
    answers = {"pricing.GetProducts": {"PriceList": [json.dumps(FREE), json.dumps(PRODUCT)]}}
    one: ScriptedAccount = account(answers)
    assert cost.live_prices(one) == {"g5.xlarge": 1.123}
    _, asked = one._aws.calls[0]
    wanted = {entry["Field"]: entry["Value"] for entry in asked["Filters"]}
    assert wanted["regionCode"] == "us-east-1"
    plan = cost.with_prices(one.plan, {"g5.xlarge": 2.0})
    assert cost.alternatives(plan)[0].usd - cost.alternatives(one.plan)[0].usd == pytest.approx(
        (2 - 1.006) * 730
    )


def test_alternatives_add_up() -> None:
    plan = Plan(Deployment(), load_catalog())
    found = {one.change: one.usd for one in cost.alternatives(plan)}
    now = found.pop("as it is")
    gpu = 1.006 * HOURS_PER_MONTH
    assert found["GPU off at night and on weekends"] == pytest.approx(now - gpu + 1.006 * 260)
    assert found["gpu.replicas: 2"] > now + gpu - 1
    assert found["gpu.capacity: spot"] < now


def test_cost_without_credentials_uses_the_catalogue() -> None:
    result = run("cost", "--json")
    assert result.exit_code == 0
    assert "prices of" in json.loads(result.stdout)["source"]
    assert "No live prices" in result.stderr


def event(time: float, text: str) -> dict[str, Any]:
    return {"timestamp": int(time * 1000), "message": text}


def test_log_lines_of_one_request_stand_together() -> None:
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
def test_time_back(since: str, expected: int) -> None:
    assert logs.seconds(since) == expected


def test_time_back_that_is_none() -> None:
    with pytest.raises(Failed, match="90s, 15m, 1h or 2d"):
        logs.seconds("yesterday")


def test_keys_as_json_and_a_new_one_alone_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    document: dict[str, Any] = {}

    class Store:
        def __init__(self, _account: object) -> None: ...

        def change(self, edit: Any) -> None:
            document.update(edit(dict(document)))

    monkeypatch.setattr(commands, "Account", lambda _plan: account({}))
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
    assert json.loads(run("keys", "revoke", "alice", "--json").stdout) == {"name": "alice", "key": None}
