"""Keys: the document, and concurrent changes to it in moto's Secrets Manager."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops import keys
from ops.account import Account, Failed
from ops.keys import Document, KeyStore
from orchestrator.api.auth import parse_keys

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def hashes(document: Document, name: str) -> list[str]:
    """Returns the hashes of a name as the orchestrator reads them."""
    entry = parse_keys(json.dumps(document)).get(name)
    return entry.digests if entry else []


def test_orchestrator_reads_a_created_key_and_only_its_hash_is_kept() -> None:
    document = keys.created({}, "alice", "sk-secret", NOW)
    assert hashes(document, "alice") == [digest("sk-secret")]
    assert "sk-secret" not in json.dumps(document)
    assert keys.listed(document)[0] == keys.Key("alice", ("2026-01-02T03:04:05+00:00",), revoked=False)


def test_both_values_are_valid_during_a_rotation_and_one_after_it() -> None:
    document = keys.created({}, "alice", "one", NOW)
    document = keys.rotated(document, "alice", "two", NOW)
    assert hashes(document, "alice") == [digest("one"), digest("two")]
    again = keys.rotated(document, "alice", "three", NOW)
    assert hashes(again, "alice") == [digest("two"), digest("three")]
    assert hashes(keys.finished(document, "alice"), "alice") == [digest("two")]


def test_bootstrap_key_is_marked_as_revoked() -> None:
    assert [(key.name, key.revoked) for key in keys.listed({})] == [("bootstrap", False)]
    document = keys.revoked({}, "bootstrap")
    assert document == {"bootstrap": None}
    assert [(key.name, key.revoked) for key in keys.listed(document)] == [("bootstrap", True)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: keys.created(d, "bob", "x", NOW), "the key 'bob' already exists"),
        (lambda d: keys.created(d, "b b", "x", NOW), "1 to 64 letters"),
        (lambda d: keys.created(d, "bootstrap", "x", NOW), "choose another"),
        (lambda d: keys.revoked(d, "eve"), "unknown key 'eve'; existing keys: bob"),
        (lambda d: keys.rotated(d, "eve", "x", NOW), "unknown key 'eve'"),
        (lambda d: keys.finished(d, "bob"), "no rotation to finish"),
    ],
)
def test_impossible_change_is_rejected_with_the_reason(edit: Any, message: str) -> None:
    with pytest.raises(Failed, match=message):
        edit({"bob": digest("b")})


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["created", "revoked", "rotated", "finished", "limited"]), st.sampled_from("abc")
        ),
        max_size=20,
    )
)
def test_any_sequence_of_edits_leaves_a_document_that_the_orchestrator_reads(
    edits: list[tuple[str, str]],
) -> None:
    document: Document = {}
    newest: dict[str, str] = {}
    for number, (edit, name) in enumerate(edits):
        value = f"key-{number}"
        try:
            if edit in ("created", "rotated"):
                document = getattr(keys, edit)(document, name, value, NOW)
                newest[name] = value
            elif edit == "limited":
                document = keys.limited(document, name, {"tokens_per_day": f"{number + 1}k"}, NOW)
            else:
                document = getattr(keys, edit)(document, name)
                if edit == "revoked":
                    newest.pop(name)
        except Failed:
            continue
    read = parse_keys(json.dumps(document))
    last = {name: entry.digests[-1] for name, entry in read.items()}
    assert last == {name: digest(value) for name, value in newest.items()}
    assert all(len(entry.digests) <= 2 for entry in read.values())


class SecretAccount(Account):
    def __init__(self, arn: str) -> None:
        super().__init__(Plan(Deployment(region="us-east-1"), load_catalog()))
        self._arn = arn

    def outputs(self) -> dict[str, str]:
        return {"ApiKeysSecretArn": self._arn}


@pytest.fixture
def account(aws: None) -> SecretAccount:
    client = boto3.client("secretsmanager", region_name="us-east-1")
    return SecretAccount(client.create_secret(Name="keys", SecretString="{}")["ARN"])


def test_change_is_visible_to_the_next_reader(account: SecretAccount) -> None:
    store = KeyStore(account)
    store.change(lambda document: keys.created(document, "alice", "x", NOW))
    assert list(KeyStore(account).read()) == ["alice"]


def test_concurrent_change_is_not_overwritten(account: SecretAccount) -> None:
    store, other = KeyStore(account), KeyStore(account)
    tries: list[list[str]] = []

    def slow(document: Document) -> Document:
        if not tries:
            other.change(lambda theirs: keys.created(theirs, "faster", "y", NOW))
        tries.append(sorted(document))
        return keys.created(document, "slower", "x", NOW)

    store.change(slow)
    assert tries == [[], ["faster"]]
    assert sorted(store.read()) == ["faster", "slower"]


def test_keys_created_at_the_same_time_all_exist(account: SecretAccount) -> None:
    together = threading.Barrier(4)

    def add(name: str) -> None:
        store = KeyStore(account)
        together.wait()
        store.change(lambda document: keys.created(document, name, name, NOW))

    threads = [threading.Thread(target=add, args=(f"key{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(KeyStore(account).read()) == ["key0", "key1", "key2", "key3"]


def test_interrupt_between_the_two_steps_leaves_the_old_document(account: SecretAccount) -> None:
    store = KeyStore(account)
    store.change(lambda document: keys.created(document, "alice", "x", NOW))

    def interrupted(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    store._make_current = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        store.change(lambda document: keys.revoked(document, "alice"))
    assert list(KeyStore(account).read()) == ["alice"]


def test_secret_with_other_content_is_not_overwritten(account: SecretAccount) -> None:
    client = boto3.client("secretsmanager", region_name="us-east-1")
    client.put_secret_value(SecretId="keys", SecretString="a password")
    with pytest.raises(Failed, match="does not contain a JSON object"):
        KeyStore(account).change(lambda document: document)
