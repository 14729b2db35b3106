"""Stored responses with their input: what is kept, and what happens if the store fails."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.responses.archive import Archive, input_items, open_store
from orchestrator.api.responses.dynamodb import DynamoStore
from orchestrator.api.responses.store import SqliteStore, StoreFailed
from orchestrator.errors import InvalidRequest, NotFound, ServiceError

RESPONSE: Any = {"id": "resp_1", "output": [{"type": "message", "id": "msg_2"}]}


class Broken(SqliteStore):
    def put(self, id: str, owner: str, body: bytes) -> None:
        raise StoreFailed("full")

    def get(self, id: str, owner: str) -> bytes | None:
        raise StoreFailed("down")


@pytest.fixture
def archive() -> Archive:
    return Archive(SqliteStore(":memory:", seconds=60, limit=10_000_000))


async def test_response_is_kept_with_its_input(archive: Archive) -> None:
    items = input_items("Hi")
    assert await archive.keep(RESPONSE, items, "alice")
    stored = await archive.find("resp_1", "alice")
    assert (stored.response, stored.items) == (RESPONSE, items)
    assert stored.history == [*items, *RESPONSE["output"]]
    await archive.delete("resp_1", "alice")
    with pytest.raises(NotFound):
        await archive.find("resp_1", "alice")
    with pytest.raises(NotFound):
        await archive.delete("resp_1", "alice")
    await archive.close()


@pytest.mark.parametrize("id", ["", "x", "resp_", "resp_a/b", "resp_" + "a" * 65, "resp_é"])
async def test_other_ids_do_not_reach_the_store(id: str) -> None:
    with pytest.raises(NotFound):
        await Archive(Broken(":memory:", seconds=60, limit=1)).find(id, "alice")


async def test_failure_of_the_store() -> None:
    broken = Archive(Broken(":memory:", seconds=60, limit=1))
    assert await broken.keep(RESPONSE, [], "alice") is False
    with pytest.raises(ServiceError) as caught:
        await broken.find("resp_1", "alice")
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "5"})


async def test_too_large_response_is_not_kept(archive: Archive) -> None:
    large = {"type": "message", "content": "x" * 9_000_000}
    assert await archive.keep(RESPONSE, [large], "alice") is False
    with pytest.raises(InvalidRequest, match="store: false"):
        archive.check_size([large])
    archive.check_size([])


async def test_archive_without_a_store() -> None:
    closed = Archive(None)
    assert not closed.is_open
    assert await closed.keep(RESPONSE, [], "alice") is False
    await closed.close()


def test_items_get_ids_and_parts() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    approval = {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True}
    said, answered, called, approved = input_items(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho", "id": "msg_0"},
            call,
            approval,
        ]
    )
    assert said["content"] == [{"type": "input_text", "text": "Hi"}]
    assert said["id"].startswith("msg_")
    assert answered == {
        "type": "message", "role": "assistant", "id": "msg_0", "status": "completed",
        "content": [{"type": "output_text", "text": "Ho", "annotations": []}],
    }  # fmt: skip
    assert called["id"].startswith("fc_")
    assert "status" not in approved


def test_setting_names_the_store() -> None:
    assert open_store("none", seconds=60, limit=1) is None
    memory, file = (open_store(name, seconds=60, limit=1) for name in ("sqlite::memory:", "sqlite:///a/b.db"))
    assert isinstance(memory, SqliteStore)
    assert isinstance(file, SqliteStore)
    assert (memory._path, file._path) == (":memory:", "/a/b.db")
    assert isinstance(open_store("dynamodb://table", seconds=60, limit=1), DynamoStore)
