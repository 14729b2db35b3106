"""`make usage`, from rows that an orchestrator stored and from what a server reports."""

from __future__ import annotations

import csv
import http.server
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops import __main__ as commands
from ops import usage
from ops.account import Account, Failed
from orchestrator.limits.table import Table
from orchestrator.limits.usage import Use
from tests.services.orchestrator.limits.shared_table import NAME, create_table

NOW = datetime(2026, 11, 26, 6, 30, tzinfo=UTC)


class TableAccount(Account):
    def __init__(self) -> None:
        super().__init__(Plan(Deployment(region="us-east-1"), load_catalog()))

    def outputs(self) -> dict[str, str]:
        return {"UsageTable": NAME}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account in whose table two orchestrators have stored usage."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        create_table(boto3.client("dynamodb", region_name="us-east-1"))
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        Table(NAME, "one").store([((day, "alice", "m"), Use(2, 1500, 20, 1000, 3, 61.5, 1))])
        Table(NAME, "two").store(
            [((day, "alice", "m"), Use(1, 500, 10)), ((day, "bob", "=n"), Use(requests=4))]
        )
        yield TableAccount()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(commands.app, ["usage", *arguments], env={"COLUMNS": "150"})


def test_formats(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "account_of", lambda _file: account)
    rows = json.loads(run("--json").stdout)
    assert [(row["key"], row["requests"], row["prompt_tokens"], row["engine_seconds"]) for row in rows] == [
        ("alice", 3, 2000, 61.5), ("bob", 4, 0, 0),
    ]  # fmt: skip
    parsed = list(csv.DictReader(io.StringIO(run("--csv").stdout)))
    assert [(row["key"], row["model"], row["completion_tokens"]) for row in parsed] == [
        ("alice", "m", "30"), ("bob", "'=n", "0"),
    ]  # fmt: skip
    shown = run("--since", "4w").stdout
    assert [line.split() for line in shown.splitlines()[2:]] == [
        ["alice", "m", "3", "2k", "1k", "30", "3", "0:01:02"],
        ["bob", "=n", "4", "0", "0", "0", "0", "0:00:00"],
        ["all", "7", "2k", "1k", "30", "3", "0:01:02"],
    ]


@pytest.mark.parametrize(
    ("since", "first", "count"),
    [("1d", "2026-11-26", 1), ("2w", "2026-11-13", 14), ("2026-11-25", "2026-11-25", 2)],
)
def test_period(since: str, first: str, count: int) -> None:
    days = usage.period(since, NOW).days
    assert (days[0], days[-1], len(days)) == (first, "2026-11-26", count)


@pytest.mark.parametrize("since", ["", "yesterday", "0d", "2027-01-01", "999d", "1h"])
def test_invalid_period(since: str) -> None:
    with pytest.raises(Failed, match="--since"):
        usage.period(since, NOW)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers one key, as an orchestrator does."""

    def do_GET(self) -> None:
        valid = self.headers["authorization"] == "Bearer sk-1" and self.path == "/v1/usage?days=7"
        body: Any = {"data": [{"day": "d", "key": "k", "model": "m", **dict.fromkeys(usage.COUNTS, 1)}]}
        if not valid:
            body = {"error": {"message": "Unknown API key."}}
        self.send_response(200 if valid else 401)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_server_is_asked_with_the_key(url: str) -> None:
    [row] = json.loads(run("--url", f"{url}/v1", "--key", "sk-1", "--json").stdout)
    assert row["key"] == "k"
    wrong = run("--url", url, "--key", "sk-2")
    assert (wrong.exit_code, "Unknown API key." in wrong.stderr) == (1, True)


def test_server_that_does_not_answer() -> None:
    missing = run("--url", "http://127.0.0.1:9", "--json")
    assert missing.exit_code == 1
    assert "does not answer" in json.loads(missing.stdout)["error"]
