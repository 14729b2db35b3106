from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from orchestrator.api import auth as auth_module
from orchestrator.api.auth import Keys, parse_keys
from orchestrator.errors import InvalidKey, ServiceError, SettingsError
from orchestrator.settings import Settings
from tests.support.live import live, until
from tests.support.scripted_engine import ScriptedEngine, whole


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def keys(**environment: str) -> Keys:
    return Keys(Settings.from_environment(environment))


def accepts(known: Keys, key: str) -> bool:
    try:
        known.check(bearer(key))
    except InvalidKey:
        return False
    return True


async def test_missing_and_wrong_keys_are_rejected(engine: ScriptedEngine) -> None:
    async with live(engine.url, API_KEYS=f"alice:{sha('one')},bob:{sha('two')}") as server:
        engine.play(whole("ok"), whole("ok"))
        missing = await server.chat()
        wrong = await server.chat(headers={"authorization": "Bearer nope"})
        assert (await server.chat(headers={"authorization": "Bearer one"})).status_code == 200
        assert (await server.chat(headers={"X-API-Key": "two"})).status_code == 200
        assert (await server.http.get("/v1/tools")).status_code == 401
        for open_route in ("/v1/models", "/health", "/metrics"):
            assert (await server.http.get(open_route)).status_code == 200
        metrics = await server.metrics()
    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert missing.json()["error"]["code"] == "missing_api_key"
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    assert "nope" not in wrong.text
    assert 'key_name="alice"' in metrics
    assert 'key_name="bob"' in metrics
    assert len(engine.requests) == 2


def test_server_without_keys_is_open() -> None:
    assert keys().check({}).name == "-"


async def test_open_server_logs_a_warning_at_startup(caplog: pytest.LogCaptureFixture) -> None:
    await keys().start()
    assert "open to everyone" in caplog.text


def test_bootstrap_key_is_named_bootstrap() -> None:
    known = keys(BOOTSTRAP_API_KEY="a-long-secret-key")
    assert known.check(bearer("a-long-secret-key")).name == "bootstrap"
    assert not accepts(known, "another")


def test_key_file_formats() -> None:
    document = {
        "alice": sha("a"),
        "bob": {"sha256": sha("b"), "created": "2026-11-23"},
        "carol": [sha("c1"), {"sha256": sha("c2")}],
        "dave": None,
    }
    parsed = parse_keys(json.dumps(document))
    assert {name: entry.digests for name, entry in parsed.items()} == {
        "alice": [sha("a")],
        "bob": [sha("b")],
        "carol": [sha("c1"), sha("c2")],
        "dave": [],
    }


@pytest.mark.parametrize(
    "document", ["", "[]", '{"a b": "x"}', '{"a": "plaintext"}', '{"a": {"sha": 1}}', '{"a": 1}']
)
def test_invalid_key_document_is_rejected_without_showing_it(document: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_keys(document)
    assert "plaintext" not in str(caught.value)


async def test_file_is_reloaded_when_it_changes(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("orchestrator.api.auth._FILE_POLL_SECONDS", 0.01)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"alice": sha("one")}))
    known = keys(API_KEYS_FILE=str(file))
    await known.start()
    try:
        assert known.check(bearer("one")).name == "alice"
        replacement = tmp_path / "new.json"
        replacement.write_text(json.dumps({"alice": [sha("one"), sha("two")]}))
        os.replace(replacement, file)
        await until(lambda: accepts(known, "two"))
        assert accepts(known, "one")
        file.write_text("{broken")
        await until(lambda: "last valid copy" in caplog.text)
        assert accepts(known, "two")
    finally:
        await known.close()


async def test_key_is_revoked_although_a_read_of_the_file_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each way in which a read may fail once, after the file has changed."""
    monkeypatch.setattr("orchestrator.api.auth._FILE_POLL_SECONDS", 0.01)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"alice": sha("one"), "bob": sha("two")}))
    known = keys(API_KEYS_FILE=str(file))
    await known.start()
    failures = iter([OSError("too many open files"), ValueError("half a file"), MemoryError("a busy moment")])
    real = auth_module.parse_keys

    def parse_keys(document: bytes) -> Any:
        failure = next(failures, None)
        if failure:
            raise failure
        return real(document)

    monkeypatch.setattr(auth_module, "parse_keys", parse_keys)
    try:
        file.write_text(json.dumps({"bob": sha("two")}))
        await until(lambda: not accepts(known, "one"))
        assert accepts(known, "two")
        assert caplog.text.count("last valid copy") == 3
    finally:
        await known.close()


async def test_change_that_keeps_the_size_and_time_of_the_file_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.api.auth._FILE_POLL_SECONDS", 0.01)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"alice": sha("one")}))
    os.utime(file, ns=(1, 1))
    known = keys(API_KEYS_FILE=str(file))
    await known.start()
    try:
        with file.open("r+") as same:
            same.write(json.dumps({"alice": sha("two")}))
        os.utime(file, ns=(1, 1))
        await until(lambda: accepts(known, "two"))
        assert not accepts(known, "one")
    finally:
        await known.close()


@pytest.mark.parametrize("nothing", [None, []])
async def test_null_in_the_file_revokes_a_key_of_any_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing: Any
) -> None:
    monkeypatch.setattr("orchestrator.api.auth._FILE_POLL_SECONDS", 0.01)
    file = tmp_path / "keys.json"
    file.write_text("{}")
    known = keys(
        API_KEYS_FILE=str(file), BOOTSTRAP_API_KEY="a-long-secret-key", API_KEYS=f"alice:{sha('one')}"
    )
    await known.start()
    try:
        assert accepts(known, "a-long-secret-key")
        assert accepts(known, "one")
        file.write_text(json.dumps({"bootstrap": nothing, "alice": nothing, "bob": sha("two")}))
        await until(lambda: accepts(known, "two"))
        assert not accepts(known, "a-long-secret-key")
        assert not accepts(known, "one")
    finally:
        await known.close()


async def test_unreadable_file_prevents_startup(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="API_KEYS_FILE"):
        await keys(API_KEYS_FILE=str(tmp_path / "missing.json")).start()


@pytest.fixture
def aws(monkeypatch: Any) -> Any:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield boto3.client("secretsmanager", region_name="eu-west-1")


async def test_secret_is_polled_and_can_revoke_keys(aws: Any) -> None:
    arn = aws.create_secret(Name="api-keys", SecretString=json.dumps({"alice": sha("one")}))["ARN"]
    known = keys(API_KEYS_SECRET_ARN=arn, KEYS_REFRESH_SECONDS="0.05", BOOTSTRAP_API_KEY="a-long-secret-key")
    with pytest.raises(ServiceError) as caught:
        known.check(bearer("a-long-secret-key"))
    assert (caught.value.status, caught.value.code) == (503, "keys_unavailable")
    await known.start()
    try:
        assert known.check(bearer("one")).name == "alice"
        assert known.check(bearer("a-long-secret-key")).name == "bootstrap"
        aws.put_secret_value(SecretId=arn, SecretString=json.dumps({"bob": sha("two"), "bootstrap": None}))
        await until(lambda: accepts(known, "two"))
        assert not accepts(known, "one")
        assert not accepts(known, "a-long-secret-key")
    finally:
        await known.close()


async def test_last_valid_copy_of_the_secret_stays_in_use(aws: Any, caplog: Any) -> None:
    arn = aws.create_secret(Name="api-keys", SecretString=json.dumps({"alice": sha("one")}))["ARN"]
    known = keys(API_KEYS_SECRET_ARN=arn, KEYS_REFRESH_SECONDS="0.05")
    await known.start()
    try:
        aws.put_secret_value(SecretId=arn, SecretString="{broken")
        await until(lambda: "could not be read" in caplog.text)
        assert accepts(known, "one")
        assert sha("one") not in caplog.text
    finally:
        await known.close()


async def test_requests_are_rejected_until_the_secret_can_be_read(aws: Any) -> None:
    known = keys(API_KEYS_SECRET_ARN="arn:aws:secretsmanager:eu-west-1:123456789012:secret:none-AbCdEf")
    await known.start()
    try:
        with pytest.raises(ServiceError):
            known.check(bearer("anything"))
    finally:
        await known.close()
