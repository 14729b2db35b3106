"""The smoke test against both tiers as processes, and against servers that fail in one way each."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.report import Result, Status
from ops.smoke import Target, smoke
from tests.support.live import Live, live, until
from tests.support.processes import Processes
from tests.support.scripted_engine import Exchange, ScriptedEngine, stream, text, whole
from tests.support.tls import TlsEndpoint

KEY = "sk-smoke"
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keys = {"API_KEYS": f"smoke:{hashlib.sha256(KEY.encode()).hexdigest()}"}
    with Processes() as processes:
        yield processes.orchestrator(processes.standin(*TOOLS).url, **keys).url + "/v1"


def by_subject(results: list[Result]) -> dict[str, Result]:
    return {result.subject: result for result in results}


def test_healthy_deployment_passes(url: str) -> None:
    results = smoke(Target(url, KEY))
    assert [result for result in results if result.status is not Status.OK] == []
    assert [result.subject for result in results] == [
        "models", "chat", "streamed chat", "weather", "calculator", "client-side tool", "wrong key"
    ]  # fmt: skip
    assert "56088" in by_subject(results)["calculator"].found
    assert "tokens/s" in by_subject(results)["streamed chat"].found


def test_rejected_key_is_reported_with_its_fix(url: str) -> None:
    results = by_subject(smoke(Target(url, "sk-wrong")))
    assert results["models"].status is Status.OK
    assert results["chat"].status is Status.ERROR
    assert "rejected" in results["chat"].found
    assert "keys" in (results["chat"].fix or "")


def test_long_answer(url: str) -> None:
    results = by_subject(smoke(Target(url, KEY), long_seconds=0.0))
    assert results["long answer"].status is Status.OK, results["long answer"]
    short = by_subject(smoke(Target(url, KEY), long_seconds=300.0))["long answer"]
    assert (short.status, "too soon" in short.found) == (Status.ERROR, True)


def test_load_balancer_is_tested_under_the_name_of_a_domain_without_a_record(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = "api.tandem.invalid"
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    with TlsEndpoint(tmp_path, domain=domain, port=port) as endpoint:
        monkeypatch.setenv("SSL_CERT_FILE", str(endpoint.certificate))
        results = smoke(Target(f"https://{domain}:{endpoint.port}/v1", KEY, connect_to="127.0.0.1"))
        assert [result for result in results if result.status is not Status.OK] == []
        assert set(endpoint.names) == {domain}
        other = f"https://other.tandem.invalid:{endpoint.port}/v1"
        (wrong,) = smoke(Target(other, KEY, connect_to="127.0.0.1"))
        assert (wrong.status, "CERTIFICATE_VERIFY_FAILED" in wrong.found) == (Status.ERROR, True)


def test_unreachable_server() -> None:
    (result,) = smoke(Target("http://127.0.0.1:1/v1", KEY))
    assert result.status is Status.ERROR
    assert "cannot be reached" in result.found


def test_server_without_keys_is_reported() -> None:
    with Processes() as processes:
        url = processes.orchestrator(processes.standin(*TOOLS).url).url + "/v1"
        assert by_subject(smoke(Target(url, None)))["wrong key"].status is Status.UNKNOWN
        taken = by_subject(smoke(Target(url, KEY)))["wrong key"]
    assert (taken.status, "was accepted" in taken.found) == (Status.ERROR, True)


async def test_engine_that_sleeps_is_started_and_waited_for(asleep: ScriptedEngine) -> None:
    settings = {"ENGINE_STARTUP_SECONDS": "30", "HEARTBEAT_SECONDS": "0.2", "DEFAULT_MODEL": "scripted"}
    async with live(asleep.url, **settings) as server:

        async def answer(exchange: Exchange) -> None:
            streams = exchange.request.json.get("stream")
            await (stream(*text("Hello")) if streams else whole("Hello"))(exchange)

        asleep.otherwise = answer
        testing = asyncio.create_task(asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
        await until(lambda: server.app._fleets.first.discovery.starts.held == 1)
        await asleep.start(asleep.port)
        results = by_subject(await testing)
    assert results["start of the engine"].status is Status.OK
    assert results["streamed chat"].status is Status.OK


async def test_engine_that_does_not_start_ends_the_test(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, ENGINE_STARTUP_SECONDS="0.3", HEARTBEAT_SECONDS="0.1") as server:
        results = await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None))
    assert [result.subject for result in results] == ["models", "start of the engine"]
    assert (results[-1].status, "ENGINE_STARTUP_SECONDS" in results[-1].found) == (Status.ERROR, True)


async def test_engine_with_wrong_answers(engine: ScriptedEngine, server: Live) -> None:
    """An engine that writes no text, calls no tool, and answers a forced call with text."""
    engine.otherwise = whole("")
    results = by_subject(await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
    assert {
        results[name].status
        for name in ("chat", "streamed chat", "weather", "calculator", "client-side tool")
    } == {Status.ERROR}
    assert "empty" in results["chat"].found
    assert "expected one call" in results["client-side tool"].found


async def test_tool_that_is_not_called(engine: ScriptedEngine, server: Live) -> None:
    engine.otherwise = whole("I think it is sunny.")
    results = by_subject(await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
    assert "did not call the tool" in results["weather"].found
    assert "sunny" in results["weather"].found


def test_key_goes_beside_a_token() -> None:
    """As behind a load balancer that verifies tokens: the token in Authorization, the key in X-API-Key."""
    keys = {
        "API_KEYS": f"smoke:{hashlib.sha256(KEY.encode()).hexdigest()}",
        "JWT_ISSUER": "https://login.example.com/",
        "JWT_AUDIENCE": "tandem",
    }
    with Processes() as processes:
        engine = processes.standin("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
        url = f"{processes.orchestrator(engine.url, **keys).url}/v1"
        results = by_subject(smoke(Target(url, KEY, token="a.verified.token")))
    assert {result.status for result in results.values()} == {Status.OK}
    assert results["wrong key"].found.startswith("rejected with 401")
