"""Servers that accept a connection and never answer: every command reports that, and ends soon."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ops.__main__ as commands
from ops import account as accounts
from ops import smoke
from ops.account import Account, Patience, Unreachable
from ops.command_line import plan_of
from ops.doctor import Check, run
from ops.report import Status
from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, after, whole
from tests.support.silent import silent_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An AWS that never answers, and commands that wait for a tenth of a second each time."""
    monkeypatch.chdir(ROOT)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(accounts, "PATIENCE", Patience(connect=0.3, read=0.3, attempts=2, report_after=0.1))
    with silent_server() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield url


@pytest.mark.parametrize(
    "command",
    [
        ["doctor"], ["deploy", "--yes"], ["destroy", "--yes"], ["smoke"], ["logs"], ["keys", "list"],
        ["keys", "create", "alice"], ["keys", "rotate-engine"],
    ],
)  # fmt: skip
def test_silent_aws_is_reported_with_progress(silent: str, command: list[str]) -> None:
    started = time.monotonic()
    result = CliRunner().invoke(commands.app, command)
    assert time.monotonic() - started < 10
    assert result.exit_code == 3, result.output
    assert "no answer for" in result.stderr
    assert "AWS_ENDPOINT_URL" in result.stderr
    assert silent in result.stderr


def test_silent_aws_leaves_json_readable(silent: str) -> None:
    result = CliRunner().invoke(commands.app, ["doctor", "--json"])
    assert "cannot be reached" in json.loads(result.stdout)["error"]


def test_one_silent_service_stops_no_other_check(silent: str) -> None:
    def answers(_: Account) -> list[Any]:
        return []

    def never(account: Account) -> list[Any]:
        account.client("ec2").describe_vpcs()
        return []

    (result,) = run([Check("quick", answers), Check("zones", never)], Account(plan_of(Path("tandem.yaml"))))
    assert (result.status, result.subject) == (Status.UNKNOWN, "zones")
    assert "cannot be reached" in result.found


def test_calls_that_ended_are_not_reported(silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    account = Account(plan_of(Path("tandem.yaml")))
    with pytest.raises(Unreachable):
        account.reach()
    assert account._waiting._started == {}
    assert account._waiting._timer is None
    assert "AWS sts GetCallerIdentity" in capsys.readouterr().err


def test_smoke_of_a_silent_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patience = smoke.Patience(connect=0.3, models=0.3, answer=0.3, report_after=0.1)
    monkeypatch.setattr(smoke, "PATIENCE", patience)
    with silent_server() as url:
        (result,) = smoke.smoke(smoke.Target(f"{url}/v1", "k"))
    assert (result.status, result.subject) == (Status.ERROR, "models")
    assert result.found.startswith("no answer within 0.")
    assert "s: models of http" in capsys.readouterr().err


async def test_smoke_of_a_server_whose_engine_is_silent_asks_no_more(
    monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine, server: Live
) -> None:
    monkeypatch.setattr(smoke, "PATIENCE", smoke.Patience(answer=0.5))
    engine.otherwise = after(asyncio.Event(), whole("never"))
    results = await asyncio.to_thread(smoke.smoke, smoke.Target(f"{server.url}/v1", "k"))
    assert [result.subject for result in results] == ["models", "chat", "other tests"]
    assert results[1].found.startswith("no answer within 0.")
