"""Stores keep bodies for their owners, for a time, and within a size."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.api.responses.store import SqliteStore, StoreFailed


def opened(path: object = ":memory:", *, seconds: int = 60, limit: int = 1000) -> SqliteStore:
    return SqliteStore(str(path), seconds=seconds, limit=limit)


def test_body_belongs_to_its_owner() -> None:
    store = opened()
    store.put("a", "alice", b"1")
    assert store.get("a", "alice") == b"1"
    assert store.get("a", "bob") is None
    assert store.delete("a", "bob") is False
    assert store.delete("a", "alice") is True
    assert store.get("a", "alice") is None
    store.close()


def test_body_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(seconds=60)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    store.put("a", "alice", b"1")
    monkeypatch.setattr("time.time", lambda: 1059.0)
    assert store.get("a", "alice") == b"1"
    monkeypatch.setattr("time.time", lambda: 1060.0)
    assert store.get("a", "alice") is None
    store.put("b", "alice", b"2")
    assert store._connection.execute("SELECT count(*) FROM responses").fetchone() == (1,)


def test_oldest_bodies_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(limit=1000)
    for number in range(5):
        monkeypatch.setattr("time.time", lambda number=number: 1000.0 + number)
        store.put(str(number), "alice", b"x" * 300)
    assert [store.get(str(number), "alice") is not None for number in range(5)] == [False, False, *[True] * 3]


def test_file_keeps_bodies_over_restarts(tmp_path: Path) -> None:
    store = opened(tmp_path / "responses.db")
    store.put("a", "alice", b"1")
    store.close()
    assert opened(tmp_path / "responses.db").get("a", "alice") == b"1"


def test_failure_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        opened(tmp_path / "missing" / "responses.db").get("a", "alice")
