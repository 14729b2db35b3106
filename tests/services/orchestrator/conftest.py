"""Blocks every network connection except over loopback in all tests of this folder."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from typing import Any

import pytest

_LOCAL_NAMES = frozenset({None, "", "localhost"})


class _Guard:
    """An audit hook. Hooks cannot be removed, so this one only acts while a test runs."""

    def __init__(self) -> None:
        self.watching = False
        self.attempts: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event == "socket.connect":
            address = arguments[1]
            if isinstance(address, tuple) and not _is_local(address[0]):
                self._refuse(f"{event} {address}")
        elif event == "socket.getaddrinfo":
            if not _is_local(arguments[0]):
                self._refuse(f"{event} {arguments[0]}")
        elif event in ("urllib.Request", "ftplib.connect", "http.client.connect"):
            self._refuse(f"{event} {arguments[0]}")

    def _refuse(self, attempt: str) -> None:
        self.attempts.append(attempt)
        raise PermissionError(f"a test of the orchestrator accessed the network: {attempt}")


def _is_local(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return str(host).endswith((".invalid", ".test"))  # names that never resolve (RFC 6761)


_guard = _Guard()


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    _guard.attempts.clear()
    _guard.watching = True
    yield
    _guard.watching = False
    assert _guard.attempts == []
