"""The store in DynamoDB, on an emulator of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from orchestrator.api.responses.dynamodb import DynamoStore
from orchestrator.api.responses.store import StoreFailed


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoStore]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="responses",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield DynamoStore("responses", seconds=60)


def test_body_belongs_to_its_owner(store: DynamoStore) -> None:
    store.put("a", "alice", b"1")
    assert store.get("a", "alice") == b"1"
    assert store.get("a", "bob") is None
    assert store.delete("a", "bob") is False
    assert store.delete("a", "alice") is True
    assert store.get("a", "alice") is None


def test_large_body_is_stored_in_parts(store: DynamoStore) -> None:
    body = os.urandom(900_000)
    store.put("a", "alice", body)
    assert store.get("a", "alice") == body
    table = boto3.client("dynamodb")
    items = table.scan(TableName="responses")["Items"]
    assert len(items) == 3
    assert all("expires" in item for item in items)
    table.delete_item(TableName="responses", Key={"pk": {"S": "response#a"}, "sk": {"S": "0001"}})
    assert store.get("a", "alice") is None  # never a part of a body
    assert store.delete("a", "alice") is True
    assert table.scan(TableName="responses")["Items"] == []


def test_body_expires(store: DynamoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", "alice", b"1")
    late = time.time() + 61
    monkeypatch.setattr("orchestrator.api.responses.dynamodb.time.time", lambda: late)
    assert store.get("a", "alice") is None


def test_failure_is_reported(store: DynamoStore) -> None:
    other = DynamoStore("missing", seconds=60)
    other.close()
    with pytest.raises(StoreFailed, match="ResourceNotFound"):
        other.get("a", "alice")
    store.close()
