"""`make keys ARGS=list`: limits, and what was used today."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

import ops.__main__ as commands
from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops import key_commands
from ops.account import Account
from orchestrator.limits.table import Table
from orchestrator.limits.usage import Use
from tests.services.orchestrator.limits.shared_table import NAME, create_table

KEYS = {
    "alice": {"sha256": "0" * 64, "created": "2026-11-01T00:00:00+00:00", "tokens_per_day": 2_000_000},
    "bob": {"sha256": "1" * 64, "created": "2026-11-02T00:00:00+00:00"},
    "carol": {"sha256": "2" * 64, "created": "2026-11-03T00:00:00+00:00", "tokens_per_day": None},
}


class KeysAccount(Account):
    def __init__(self, arn: str) -> None:
        deployment = Deployment.model_validate({"region": "us-east-1", "limits": {"tokens_per_day": 50_000}})
        super().__init__(Plan(deployment, load_catalog()))
        self.known = {"ApiKeysSecretArn": arn, "UsageTable": NAME}

    def outputs(self) -> dict[str, str]:
        return self.known


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[KeysAccount]:
    """An account with three keys, two of which were used today by two orchestrators."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        secrets = boto3.client("secretsmanager", region_name="us-east-1")
        made = KeysAccount(secrets.create_secret(Name="keys", SecretString=json.dumps(KEYS))["ARN"])
        create_table(boto3.client("dynamodb", region_name="us-east-1"))
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        Table(NAME, "one").store(
            [((today, "alice", "m"), Use(2, 1500, 20)), (("2026-01-01", "alice", "m"), Use(9, 9))]
        )
        Table(NAME, "two").store(
            [((today, "alice", "n"), Use(1, 500, 10)), ((today, "bob", "m"), Use(1200, 700, 70))]
        )
        monkeypatch.setattr(key_commands, "account_of", lambda _file: made)
        yield made


def run(*arguments: str) -> Any:
    return CliRunner().invoke(commands.app, ["keys", "list", *arguments], env={"COLUMNS": "160"})


def test_list_shows_limits_and_what_was_used_today(account: KeysAccount) -> None:
    lines = run().stdout.splitlines()
    assert lines[0].split("  ")[-1].strip() == "tokens today"
    ends = {line.split()[0]: " ".join(line.split()[-4:]) for line in lines[1:]}
    assert ends["alice"] == "3 2.03k of 2M"
    assert ends["bob"] == "1.2k 770 of 50k"
    assert ends["bootstrap"] == "0 0 of 50k"
    assert ends["carol"] == "per day 0 0"  # its own limit lifts that of all keys
    assert "2M tokens per day" in next(line for line in lines if " alice " in line)


def test_json_has_the_numbers(account: KeysAccount) -> None:
    listed = {key["name"]: key for key in json.loads(run("--json").stdout)}
    assert listed["alice"]["today"] == {"requests": 3, "tokens": 2030}
    assert listed["alice"]["limits"] == {"tokens_per_day": 2_000_000}
    assert listed["carol"]["today"] == {"requests": 0, "tokens": 0}


@pytest.mark.parametrize("table", [None, "gone"])
def test_keys_are_listed_if_the_use_cannot_be_read(account: KeysAccount, table: str | None) -> None:
    account.known.pop("UsageTable")
    if table:
        account.known["UsageTable"] = table
    ran = run("--json")
    assert ran.exit_code == 0
    assert {key["name"]: key["today"] for key in json.loads(ran.stdout)}["alice"] is None
    assert "What was used today is unknown" in ran.stderr
    assert run().stdout.count("unknown") == 2 * 4
