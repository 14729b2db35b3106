"""DynamoDB in this process, by moto."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from orchestrator.limits import sync

from .shared_table import create_table


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an account with the table, whose updates are atomic, and may take a while."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(sync, "_WAIT_SECONDS", 60)
    monkeypatch.setattr(sync, "_CLOSE_SECONDS", 60)
    _answer_one_call_at_a_time(monkeypatch)
    with mock_aws():
        yield create_table()


def _answer_one_call_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes moto's calls atomic, as DynamoDB's are.

    Otherwise, two threads may both find that an item does not exist yet, and one loses what the other wrote.
    """
    lock, answer = threading.RLock(), BotocoreStubber.process_request

    def process_request(self: BotocoreStubber, request: Any) -> Any:
        with lock:
            return answer(self, request)

    monkeypatch.setattr(BotocoreStubber, "process_request", process_request)
