"""A running engine gets the adapters below a prefix, whatever happens to S3, the engine or the adapters."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine_start import adapter_sync
from engine_start.adapter_sync import AdapterSync, Limits
from engine_start.adapters import CONFIG, WEIGHTS
from engine_start.engine_adapters import Rejected

from .stored import BASE, PREFIX, put, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEEP_SECONDS = 90
CORRUPT = b"corrupt"


class Engine:
    """An engine that keeps what it has loaded, and rejects corrupt weights as vLLM does."""

    def __init__(self) -> None:
        self.loaded: dict[str, Path] = {}
        self.calls: list[str] = []
        self.failures: list[OSError] = []

    def load(self, name: str, path: Path) -> None:
        self._call(f"load {name}")
        assert name not in self.loaded, "vLLM rejects a second adapter of the name"
        if (path / WEIGHTS).read_bytes() == CORRUPT:
            raise Rejected("Call to add_lora method failed: header too large")
        self.loaded[name] = path

    def unload(self, name: str) -> None:
        self._call(f"unload {name}")
        self.loaded.pop(name, None)

    def _call(self, call: str) -> None:
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)

    def weights(self) -> dict[str, bytes]:
        return {name: (path / WEIGHTS).read_bytes() for name, path in self.loaded.items()}


class Away:
    """S3 that cannot be reached."""

    def get_paginator(self, _: str) -> Any:
        raise EndpointConnectionError(endpoint_url="https://s3")


class Rig:
    """A synchronisation with a scripted engine, a clock and a log."""

    def __init__(self, client: Any, directory: Path) -> None:
        self.engine = Engine()
        self.log: list[dict[str, Any]] = []
        self.now = 0.0
        self.client = client
        self.directory = directory
        self.sync = AdapterSync(
            PREFIX,
            lambda: self.client,
            self.engine,  # type: ignore[arg-type]
            directory,
            Limits(BASE, 16, frozenset({BASE, "configured"})),
            keep_seconds=KEEP_SECONDS,
            report=lambda entry: self.log.append(dict(entry)),
            clock=lambda: self.now,
        )

    def look(self) -> list[str]:
        """Synchronises; returns what was reported, as `name state: reason`."""
        self.log.clear()
        self.now += 60
        self.sync.synchronise()
        return [
            f"{one.get('adapter', 'prefix')} {one['state']}"
            + (f": {one['reason']}" if "reason" in one else "")
            for one in self.log
        ]


@pytest.fixture
def rig(s3: S3Client, tmp_path: Path) -> Rig:
    return Rig(s3, tmp_path)


def test_new_changed_and_removed(rig: Rig, s3: S3Client) -> None:
    assert rig.look() == []
    put(s3, "tone")
    put(s3, "sql", weights=b"sql", r=16)
    assert rig.look() == ["sql loaded", "tone loaded"]
    assert rig.log[0] | {"seconds": 0} == {
        "event": "adapter", "adapter": "sql", "state": "loaded", "rank": 16, "seconds": 0
    }  # fmt: skip
    assert rig.engine.weights() == {"sql": b"sql", "tone": b"weights"}
    assert rig.look() == []
    first = rig.engine.loaded["tone"]
    put(s3, "tone", weights=b"better")
    rig.engine.calls.clear()
    assert rig.look() == ["tone loaded"]
    assert rig.engine.calls == ["unload tone", "load tone"]
    assert rig.engine.weights()["tone"] == b"better"
    assert rig.engine.loaded["tone"] != first, "vLLM keeps cached prefixes by name and path"
    remove(s3, "tone")
    assert rig.look() == ["tone removed"]
    assert set(rig.engine.loaded) == {"sql"}


def test_files_stay_as_long_as_requests_may_need_them(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone")
    rig.look()
    path = rig.engine.loaded["tone"]
    remove(s3, "tone")
    rig.look()
    rig.look()
    assert path.exists()
    rig.look()
    assert not path.exists()
    assert list(rig.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("tone", {"r": 32}, "has rank 32, and the engine allows 16; set MAX_LORA_RANK to at least 32"),
        ("tone", {"peft_type": "IA3"}, "has peft_type 'IA3'; vLLM serves LORA only"),
        ("tone", {"base_model_name_or_path": "acme/x"}, f"'acme/x', and this engine serves '{BASE}'"),
        ("tone", {"weights": CORRUPT}, "vLLM does not load it: Call to add_lora method failed: header too"),
        ("configured", {}, "the name is also that of the model or of an adapter in ADAPTERS; rename"),
        ("a b", {}, "'a b' is not a name of an adapter: rename the folder"),
    ],
)
def test_bad_adapter_is_reported_once_and_stops_no_other(
    rig: Rig, s3: S3Client, name: str, changes: dict[str, Any], reason: str
) -> None:
    put(s3, name, **changes)
    put(s3, "zen")
    said = rig.look()
    assert sorted(line.partition(":")[0] for line in said) == sorted([f"{name} rejected", "zen loaded"])
    assert reason in next(line for line in said if "rejected" in line)
    assert rig.look() == []
    assert set(rig.engine.loaded) == {"zen"}


def test_bad_adapter_works_once_it_is_corrected(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone", r=32)
    rig.look()
    put(s3, "tone", r=16)
    assert rig.look() == ["tone loaded"]


@pytest.mark.parametrize("changes", [{"r": 64}, {"weights": CORRUPT}])
def test_version_that_cannot_be_used_leaves_the_one_before(
    rig: Rig, s3: S3Client, changes: dict[str, Any]
) -> None:
    put(s3, "tone", weights=b"good")
    rig.look()
    put(s3, "tone", **changes)
    assert [line.partition(":")[0] for line in rig.look()] == ["tone rejected"]
    assert rig.engine.weights() == {"tone": b"good"}
    for _ in range(4):
        assert rig.look() == []
    assert rig.engine.weights() == {"tone": b"good"}
    remove(s3, "tone")
    assert rig.look() == ["tone removed"]
    assert rig.engine.loaded == {}


def test_adapter_that_is_being_written_is_left_alone(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone")
    put(s3, "new")
    remove(s3, "new", CONFIG)
    assert rig.look() == ["new incomplete: there is no adapter_config.json", "tone loaded"]
    remove(s3, "tone", CONFIG)
    assert rig.look() == ["tone incomplete: there is no adapter_config.json"]
    assert set(rig.engine.loaded) == {"tone"}
    put(s3, "tone", weights=b"second")
    put(s3, "new")
    assert rig.look() == ["new loaded", "tone loaded"]


def test_s3_that_is_away_changes_nothing(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone")
    rig.look()
    rig.sync._s3 = Away()  # type: ignore[assignment]
    [said] = rig.look()
    assert said.startswith("prefix unknown: ADAPTERS_FROM='s3://weights/tuned': S3 cannot be reached")
    assert rig.log[0]["adapters_from"] == "s3://weights/tuned"
    assert rig.look() == []
    assert set(rig.engine.loaded) == {"tone"}
    rig.sync._s3 = s3
    remove(s3, "tone")
    assert rig.look() == ["tone removed"]


def test_engine_that_does_not_answer_is_asked_again(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone")
    rig.engine.failures = [OSError("timed out")]
    assert rig.look() == ["tone waiting: the engine did not answer: timed out"]
    assert rig.look() == ["tone loaded"]
    remove(s3, "tone")
    rig.engine.failures = [OSError("timed out")]
    assert rig.look() == ["tone waiting: it cannot be unloaded: timed out"]
    assert rig.look() == ["tone removed"]


def test_full_disk_waits(rig: Rig, s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, "tone")
    monkeypatch.setattr(adapter_sync, "SPARE_BYTES", 1 << 60)
    [said] = rig.look()
    assert said.startswith("tone waiting: it cannot be copied: it has 0.0 GB, and the disk has ")
    monkeypatch.undo()
    assert rig.look() == ["tone loaded"]


def test_number_of_adapters_is_bounded(rig: Rig, s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_sync, "MOST_ADAPTERS", 2)
    for name in ("a", "b", "c"):
        put(s3, name)
    assert rig.look() == [
        "c rejected: the engine has 2 adapters, which is the most; remove one", "a loaded", "b loaded"
    ]  # fmt: skip
    remove(s3, "a")
    assert rig.look() == ["a removed", "c loaded"]


def test_copies_may_be_made_before_the_engine_answers(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone")
    rig.sync.fetch()
    assert rig.engine.calls == []
    rig.sync._s3 = Away()  # type: ignore[assignment]
    assert rig.look()[1:] == ["tone loaded"]


def test_unexpected_error_does_not_end_the_loop(rig: Rig, s3: S3Client) -> None:
    put(s3, "tone")
    stopped = threading.Event()

    def fail_once(name: str, path: Path) -> None:
        rig.engine.load = Engine.load.__get__(rig.engine)  # type: ignore[method-assign]
        raise KeyError("unexpected")

    rig.engine.load = fail_once  # type: ignore[method-assign]
    thread = threading.Thread(target=rig.sync.run, args=(0.01,), kwargs={"stopped": stopped})
    thread.start()
    try:
        while not rig.engine.loaded:
            assert thread.is_alive()
    finally:
        stopped.set()
        thread.join()
    assert rig.log[0]["reason"] == "KeyError: 'unexpected'"


class Objects:
    """S3 in memory, as far as the synchronisation asks it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    def get_paginator(self, _: str) -> Objects:
        if self.away:
            raise EndpointConnectionError(endpoint_url="https://s3")
        return self

    def paginate(self, **given: str) -> Iterator[dict[str, Any]]:
        found = [
            {"Key": key, "ETag": str(hash(value)), "Size": len(value)}
            for key, value in sorted(self.objects.items())
            if key.startswith(given["Prefix"])
        ]
        yield {"Contents": found} if found else {}

    def get_object(self, **given: str) -> dict[str, Any]:
        value = self.objects.get(given["Key"])
        if value is None or str(hash(value)) != given["IfMatch"]:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "GetObject")
        return {"Body": Body(value)}


class Body(io.BytesIO):
    def iter_chunks(self, size: int) -> Iterator[bytes]:
        while piece := self.read(size):
            yield piece


NAMES = ("tone", "sql", "configured", "bad name", "Ünicode", "")
CONFIGS: tuple[Any, ...] = (
    {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8},
    {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 17},
    {"peft_type": "LORA", "base_model_name_or_path": "acme/x", "r": 8},
    {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8, "rank_pattern": [1]},
    [], None,
)  # fmt: skip
FIT = json.dumps(CONFIGS[0]).encode()
EVENTS = st.one_of(
    st.tuples(st.just("config"), st.sampled_from(NAMES), st.sampled_from(CONFIGS).map(json.dumps)),
    st.tuples(st.just("config"), st.sampled_from(NAMES), st.text(max_size=20)),
    st.tuples(st.just("weights"), st.sampled_from(NAMES), st.sampled_from(("one", "two", CORRUPT.decode()))),
    st.tuples(st.sampled_from(("drop config", "drop weights")), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.sampled_from(("s3 away", "s3 back", "engine fails", "look")), st.just(""), st.just("")),
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, max_size=25))
def test_whatever_happens_the_engine_ends_with_what_fits(
    events: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Objects()
    rig = Rig(store, tmp_path_factory.mktemp("adapters"))
    for kind, name, value in events:
        key = PREFIX.key(f"{name}/{WEIGHTS if 'weights' in kind else CONFIG}")
        match kind:
            case "config" | "weights":
                store.objects[key] = value.encode()
            case "drop config" | "drop weights":
                store.objects.pop(key, None)
            case "s3 away" | "s3 back":
                store.away = kind == "s3 away"
            case "engine fails":
                rig.engine.failures.append(OSError("timed out"))
            case "look":
                rig.look()
    store.away = False
    for _ in range(3 + len(rig.engine.failures)):
        rig.look()
    assert rig.look() == []
    whole = {
        name: store.objects[PREFIX.key(f"{name}/{WEIGHTS}")]
        for name in ("tone", "sql")
        if {PREFIX.key(f"{name}/{file}") for file in (CONFIG, WEIGHTS)} <= store.objects.keys()
    }
    fit = {
        name: weights
        for name, weights in whole.items()
        if store.objects[PREFIX.key(f"{name}/{CONFIG}")] == FIT and weights != CORRUPT
    }
    loaded = rig.engine.weights()
    assert fit.items() <= loaded.items()
    there = {name for name in ("tone", "sql") if any(f"/{name}/" in key for key in store.objects)}
    assert loaded.keys() <= there, "only an adapter that is being written, or whose change is bad, stays"
    assert CORRUPT not in loaded.values()
    for _ in range(3):
        rig.look()
    assert len(list(rig.directory.iterdir())) == len(loaded)
