"""What is tested after a deployment, where, and what is printed at the end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import ops.__main__ as commands
from ops import acceptance, command_line, curl, dns, smoke
from ops.report import Result, Status
from ops.smoke import Target
from tests.ops.scripted_aws import ScriptedAccount, account
from tests.support.processes import Processes
from tests.support.tls import TlsEndpoint

KEY = "sk-acceptance"
OUTPUTS = {
    "Url": "https://api/v1",
    "PageUrl": "https://api/",
    "LoadBalancerName": "lb.example.com",
    "ReadApiKey": "aws secretsmanager get-secret-value --secret-id arn:x",
}
OK = [Result(Status.OK, "models", "m"), Result(Status.OK, "chat", "hello")]
OUT_OF_REACH = [Result(Status.ERROR, "models", "https://api/v1 cannot be reached: timed out")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keys = {"API_KEYS": f"smoke:{hashlib.sha256(KEY.encode()).hexdigest()}"}
    with Processes() as processes:
        engine = processes.standin("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
        yield processes.orchestrator(engine.url, **keys).url


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_API_KEY", raising=False)


def deployed(**settings: Any) -> ScriptedAccount:
    """An account with a deployed stack."""
    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
    stack = {"StackName": "s", "StackStatus": "CREATE_COMPLETE", "CreationTime": datetime.now(UTC)}
    answers: Any = {
        "cloudformation.DescribeStacks": {"Stacks": [{**stack, "Outputs": outputs}]},
        "secretsmanager.GetSecretValue": {"SecretString": "sk-bootstrap"},
    }
    return account(answers, **settings)


def targets_of(monkeypatch: pytest.MonkeyPatch, results: list[Result]) -> list[Target]:
    """Plays the smoke test; returns the list of what is tested."""
    targets: list[Target] = []

    def play(target: Target, **_: Any) -> list[Result]:
        targets.append(target)
        return list(results)

    monkeypatch.setattr(smoke, "smoke", play)
    monkeypatch.setattr(curl, "run", lambda _: Result(Status.OK, "curl", "hello"))
    return targets


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_url_is_accepted_with_or_without_its_last_part(url: str, end: str) -> None:
    result = CliRunner().invoke(commands.app, ["smoke", "--url", url + end, "--key", KEY])
    assert result.exit_code == 0, result.output
    assert f"Smoke test of {url}/v1" in result.stdout


@pytest.mark.parametrize(
    ("settings", "option", "connect_to", "said"),
    [
        ({"ingress__domain": "api.tandem.invalid"}, [], "lb.example.com", "does not resolve yet"),
        ({"ingress__domain": "api.tandem.invalid"}, ["--connect-to", "127.0.0.1:8443"], "127.0.0.1:8443", ""),
        ({"ingress__domain": "localhost.localdomain"}, [], None, ""),
    ],
)
def test_deployed_load_balancer_is_reached(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    option: list[str],
    connect_to: str | None,
    said: str,
) -> None:
    targets = targets_of(monkeypatch, OK)
    monkeypatch.setattr(command_line, "Account", lambda _plan: deployed(**settings))
    monkeypatch.setattr(dns, "addresses", lambda name: {"127.0.0.1"} if "localhost" in name else set())
    result = CliRunner().invoke(commands.app, ["smoke", *option])
    assert result.exit_code == 0, result.stderr
    assert targets == [Target("https://api/v1", "sk-bootstrap", None, connect_to)]
    assert said in result.stderr


def test_key_of_the_environment_comes_before_the_bootstrap_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_API_KEY", "sk-mine")
    assert acceptance.deployed(deployed()).key == "sk-mine"


def test_internal_load_balancer_out_of_reach_is_not_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    targets_of(monkeypatch, OUT_OF_REACH)
    internal = deployed(ingress__scheme="internal")
    acceptance.accept(acceptance.deployed(internal), as_json=True, account=internal)
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["status"] == "unknown"
    assert "is internal and cannot be reached from here" in result["found"]
    assert "AWS-StartPortForwardingSessionToRemoteHost" in result["fix"]
    assert "host=lb.example.com" in result["fix"]
    public = deployed()
    with pytest.raises(typer.Exit):
        acceptance.accept(acceptance.deployed(public), as_json=True, account=public)


def test_internal_load_balancer_is_tested_where_it_can_be_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    targets_of(monkeypatch, OK)
    internal = deployed(ingress__scheme="internal")
    acceptance.accept(acceptance.deployed(internal), as_json=True, account=internal)
    subjects = [one["subject"] for one in json.loads(capsys.readouterr().out)["results"]]
    assert subjects == ["models", "chat", "curl"]


def test_deployment_ends_with_its_url_and_a_line_that_works(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through TLS, under a domain that has no DNS record yet."""
    domain = "api.tandem.invalid"
    with TlsEndpoint(tmp_path, domain=domain, port=int(url.rpartition(":")[2])) as endpoint:
        for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(endpoint.certificate))
        target = Target(f"https://{domain}:{endpoint.port}/v1", KEY, connect_to="127.0.0.1")
        acceptance.accept(target, as_json=False, account=deployed())
        shown = capsys.readouterr()
        assert "✓ curl" in shown.out
        head, _, command = shown.err.strip().rpartition("\n")
        assert f"The API is at {target.url}" in head
        assert "open https://api/" in head
        assert f'export TANDEM_API_KEY="$({OUTPUTS["ReadApiKey"]})"' in head
        ended = subprocess.run(
            command, shell=True, env=os.environ | {"TANDEM_API_KEY": KEY}, capture_output=True, check=False
        )
    assert ended.returncode == 0, ended.stderr
    assert "San Francisco" in json.loads(ended.stdout)["choices"][0]["message"]["content"]


def test_line_that_fails_is_reported(url: str) -> None:
    wrong = curl.run(Target(f"{url}/v1", "sk-wrong"))
    assert (wrong.status, "401" in wrong.found) == (Status.ERROR, True)
    assert "sk-wrong" not in str(wrong)
    silent = curl.run(Target("http://127.0.0.1:1/v1", None))
    assert silent.status is Status.ERROR


def test_key_is_in_no_line() -> None:
    assert KEY not in curl.line(Target("https://api/v1", KEY))
    assert "Authorization" not in curl.line(Target("https://api/v1", None))


def test_missing_curl_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert curl.run(Target("https://api/v1", None)).status is Status.UNKNOWN


TOKENS = {
    "issuer": "https://login.example.com/",
    "jwks": "https://login.example.com/keys",
    "audience": "tandem",
}


def test_load_balancer_that_verifies_tokens_is_tested_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    behind_tokens = deployed(ingress__jwt=TOKENS, ingress__domain="llm.example.com")
    monkeypatch.setattr(dns, "addresses", lambda _: ["127.0.0.1"])
    acceptance.accept(acceptance.deployed(behind_tokens), as_json=False, account=behind_tokens)
    shown = capsys.readouterr()
    assert "not tested: the load balancer accepts only requests with a token" in shown.out
    assert "export TANDEM_TOKEN=TOKEN; make smoke" in shown.out
    monkeypatch.setenv("TANDEM_TOKEN", "a.b.c")
    target = acceptance.deployed(behind_tokens)
    assert (target.token, target.headers) == ("a.b.c", {"X-API-Key": "sk-bootstrap"})
    assert '-H "Authorization: Bearer $TANDEM_TOKEN"' in curl.line(target)
    assert "a.b.c" not in curl.line(target)


def test_line_that_chats_is_not_shown_where_no_model_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    targets_of(monkeypatch, [Result(Status.OK, "embedding of bge", "vectors")])
    one = deployed()
    acceptance.accept(acceptance.deployed(one), as_json=True, account=one)
    subjects = [one["subject"] for one in json.loads(capsys.readouterr().out)["results"]]
    assert subjects == ["embedding of bge"]
