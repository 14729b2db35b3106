"""Adapters are checked, copied below the prefix of a model, listed and removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops.account import Account, Failed
from ops.adapter_files import CONFIG, WEIGHTS
from ops.adapters import AdapterStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BASE = "Qwen/Qwen2.5-7B-Instruct"
ONE = {"model": {"adapters_from": "s3://acme-adapters/later", "aliases": ["gpt-4o"]}}


def account(**settings: Any) -> Account:
    given = Deployment.model_validate({"region": "us-east-1", **(settings or ONE)})
    return Account(Plan(given, load_catalog()))


def save(directory: Path, weights: bytes | None = b"weights", **changes: Any) -> str:
    """Writes an adapter as PEFT does, and returns its directory."""
    directory.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8, **changes}
    (directory / CONFIG).write_text(json.dumps(config))
    if weights is not None:
        (directory / WEIGHTS).write_bytes(weights)
    return str(directory)


def keys(s3: S3Client) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket="acme-adapters").get("Contents", [])]


def content(s3: S3Client, key: str) -> bytes:
    return s3.get_object(Bucket="acme-adapters", Key=key)["Body"].read()


def test_directory_is_checked_and_uploaded(s3: S3Client, tmp_path: Path) -> None:
    store = AdapterStore(account())
    assert store.add("tone", save(tmp_path / "a", r=12)) == 12
    assert keys(s3) == [f"later/tone/{CONFIG}", f"later/tone/{WEIGHTS}"]
    assert content(s3, f"later/tone/{WEIGHTS}") == b"weights"
    [one] = store.list()
    assert (one.name, one.state, one.rank, one.reason) == ("tone", "complete", 12, "")
    assert one.size == sum(len(content(s3, key)) for key in keys(s3))
    store.remove("tone")
    assert store.list() == []
    assert keys(s3) == []


def test_prefix_in_s3_is_copied(s3: S3Client, tmp_path: Path) -> None:
    s3.create_bucket(Bucket="training")
    directory = Path(save(tmp_path / "a"))
    for file in directory.iterdir():
        s3.upload_file(str(file), "training", f"run-7/{file.name}")
    AdapterStore(account()).add("tone", "s3://training/run-7/")
    assert content(s3, f"later/tone/{WEIGHTS}") == b"weights"


def test_bucket_may_be_the_prefix(s3: S3Client, tmp_path: Path) -> None:
    store = AdapterStore(account(model={"adapters_from": "s3://acme-adapters"}))
    store.add("tone", save(tmp_path / "a"))
    assert keys(s3) == [f"tone/{CONFIG}", f"tone/{WEIGHTS}"]
    assert [one.name for one in store.list()] == ["tone"]


def test_configuration_is_written_last_and_deleted_first(
    s3: S3Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, calls = account(), []
    client = given.client("s3")
    client.meta.events.register(
        "before-parameter-build.s3", lambda params, model, **_: calls.append((model.name, params.get("Key")))
    )
    monkeypatch.setattr(given, "client", lambda _service: client)
    store = AdapterStore(given)
    changes = ("PutObject", "DeleteObject")
    config, weights = f"later/tone/{CONFIG}", f"later/tone/{WEIGHTS}"
    store.add("tone", save(tmp_path / "a"))
    assert [one for one in calls if one[0] in changes] == [("PutObject", weights), ("PutObject", config)]
    calls.clear()
    store.add("tone", save(tmp_path / "a", weights=b"second"), replace=True)
    assert [one for one in calls if one[0] in changes] == [
        ("DeleteObject", config), ("PutObject", weights), ("PutObject", config)
    ]  # fmt: skip
    assert content(s3, weights) == b"second"


def test_name_that_is_there_needs_replace(s3: S3Client, tmp_path: Path) -> None:
    store = AdapterStore(account())
    store.add("tone", save(tmp_path / "a", weights=b"first"))
    with pytest.raises(
        Failed, match="tone is there already; choose another name, or replace it with --replace"
    ):
        store.add("tone", save(tmp_path / "b", weights=b"second"))
    assert content(s3, f"later/tone/{WEIGHTS}") == b"first"
    s3.delete_object(Bucket="acme-adapters", Key=f"later/tone/{CONFIG}")  # an upload that was interrupted
    store.add("tone", save(tmp_path / "b", weights=b"second"))
    assert content(s3, f"later/tone/{WEIGHTS}") == b"second"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"r": 32},
            r"adapter_config\.json: the rank is 32, and the engines serve at most 16; set max_lora_rank: 32",
        ),
        ({"r": 700}, "the rank is 700, and the engines serve at most 16; train it with a lower rank"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; engines serve LORA only"),
        (
            {"base_model_name_or_path": "acme/x"},
            f"base_model_name_or_path is 'acme/x', and the model is '{BASE}'",
        ),
        ({"weights": None}, r"there is no adapter_model\.safetensors; save the adapter with PEFT's"),
        ({"weights": b""}, r"there is no adapter_model\.safetensors"),
    ],
)
def test_adapter_that_does_not_fit_is_not_copied(
    s3: S3Client, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = save(tmp_path / "a", **changes)
    with pytest.raises(Failed, match=message):
        AdapterStore(account()).add("tone", given)
    for file in Path(given).iterdir():
        s3.upload_file(str(file), "acme-adapters", f"elsewhere/{file.name}")
    with pytest.raises(Failed, match=message):
        AdapterStore(account()).add("tone", "s3://acme-adapters/elsewhere")
    assert not [key for key in keys(s3) if key.startswith("later/")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../tone", "'../tone' is not a name of an adapter: use up to 96 letters"),
        ("tone\n", "is not a name of an adapter"),
        ("gpt-4o", r"'gpt-4o' is also the name of model\.aliases in the deployment file; choose another one"),
        ("own", r"'own' is also the name of model\.adapters\.own"),
    ],
)
def test_names_that_cannot_be_used(s3: S3Client, tmp_path: Path, name: str, message: str) -> None:
    given = {"model": {**ONE["model"], "adapters": {"own": "acme/own"}}}
    with pytest.raises(Failed, match=message):
        AdapterStore(account(**given)).add(name, save(tmp_path / "a"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", r"nowhere: adapter_config\.json cannot be read \(No such file or directory\); name the"),
        (
            "https://example.com/a",
            "'https://example.com/a' must be a directory, or look like s3://bucket/prefix",
        ),
        ("s3:///a", "'s3:///a' must be a directory, or look like s3://bucket/prefix"),
        (
            "s3://acme-adapters/none",
            r"s3://acme-adapters/none: there is no adapter_config\.json; name the prefix",
        ),
        ("s3://no-such-bucket/a", "the bucket no-such-bucket does not exist"),
    ],
)
def test_sources_that_cannot_be_read(s3: S3Client, source: str, message: str) -> None:
    with pytest.raises(Failed, match=message):
        AdapterStore(account()).add("tone", source)


def test_prefix_whose_bucket_does_not_exist(s3: S3Client, tmp_path: Path) -> None:
    store = AdapterStore(account(model={"adapters_from": "s3://no-such-bucket/later"}))
    message = "s3://no-such-bucket/later: the bucket no-such-bucket does not exist; create it"
    for action in (store.list, lambda: store.remove("tone"), lambda: store.add("tone", save(tmp_path / "a"))):
        with pytest.raises(Failed, match=message):
            action()


def test_list_says_what_engines_would_not_load(s3: S3Client, tmp_path: Path) -> None:
    for name, changes in (("big", {"r": 64}), ("gpt-4o", {}), ("half", {"weights": None}), ("tone", {})):
        for file in Path(save(tmp_path / name, **changes)).iterdir():
            s3.upload_file(str(file), "acme-adapters", f"later/{name}/{file.name}")
    s3.put_object(Bucket="acme-adapters", Key="later/README.md", Body=b"#")
    found = AdapterStore(account()).list()
    assert [(one.name, one.state, one.rank) for one in found] == [
        ("big", "rejected", None), ("gpt-4o", "rejected", None), ("half", "incomplete", None),
        ("tone", "complete", 8),
    ]  # fmt: skip
    assert "the rank is 64" in found[0].reason
    assert found[2].reason == f"there is no {WEIGHTS}"


def test_only_what_is_there_can_be_removed(s3: S3Client, tmp_path: Path) -> None:
    store = AdapterStore(account())
    with pytest.raises(
        Failed, match="there is no adapter 'tone' below s3://acme-adapters/later; there are none"
    ):
        store.remove("tone")
    store.add("sql", save(tmp_path / "a"))
    with pytest.raises(Failed, match="there are: sql"):
        store.remove("tone")


LATER = {"adapters_from": "s3://acme-adapters/small"}
SMALL = {"id": "Qwen/Qwen2.5-0.5B-Instruct", **LATER}


def test_model_is_named_where_several_have_a_prefix(s3: S3Client, tmp_path: Path) -> None:
    two = account(models={"main": dict(ONE["model"]), "small": SMALL, "other": {"id": "Qwen/Qwen3-8B"}})
    with pytest.raises(Failed, match="several models have adapters_from; name one with --model: main, small"):
        AdapterStore(two)
    store = AdapterStore(two, "small")
    assert (store.model, str(store.place)) == (SMALL["id"], "s3://acme-adapters/small")
    store.add("tone", save(tmp_path / "a", base_model_name_or_path=SMALL["id"]))
    with pytest.raises(Failed, match="--model tiny: unknown entry of models; the entries are main, small"):
        AdapterStore(two, "tiny")
    for entry, given in (("other", two), (None, account(model={}))):
        with pytest.raises(Failed, match="the model has no adapters_from; set it to s3://bucket/prefix"):
            AdapterStore(given, entry)
    with pytest.raises(Failed, match="the entries are none, so leave --model out"):
        AdapterStore(account(), "small")
