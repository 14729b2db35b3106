"""Where a domain points to, as this machine resolves it."""

from __future__ import annotations

import socket


def addresses(name: str) -> set[str]:
    """Returns the IP addresses of a host name; none if it does not resolve."""
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(address[0]) for *_, address in found}
