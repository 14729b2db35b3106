"""Clients that keep asking while something is replaced."""

from __future__ import annotations

import ssl
import threading
from types import TracebackType
from typing import Any

import httpx

_CLIENTS = 4
_BODIES: tuple[dict[str, Any], ...] = (
    {"stream": True, "standin": {"chunks": 20, "delay_token": 0.05}},
    {"stream": False, "standin": {"chunks": 5, "delay_token": 0.05}},
)


class Traffic:
    """Streamed and whole answers, one after the other by four clients, while it is entered.

    Attributes:
        answers: how many were whole.
        failures: what went wrong with the others.
    """

    def __init__(self, url: str, key: str, tls: ssl.SSLContext) -> None:
        self._url = f"{url}/chat/completions"
        self._key = key
        self._tls = tls
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(_CLIENTS)]
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx.Client(verify=self._tls, headers=headers, timeout=60) as client:
            while not self._ended.is_set():
                for body in _BODIES:
                    failure = _failure(client, self._url, body)
                    if failure:
                        self.failures.append(failure)
                    else:
                        self.answers += 1


def _failure(client: httpx.Client, url: str, body: dict[str, Any]) -> str | None:
    """What is wrong with an answer; None if it is whole."""
    message = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}
    try:
        answer = client.post(url, json=message | body)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    if answer.status_code != 200:
        return f"status {answer.status_code}: {answer.text[:200]}"
    if body["stream"] and not answer.text.rstrip().endswith("data: [DONE]"):
        return f"the stream was cut: {answer.text[-200:]}"
    return None
