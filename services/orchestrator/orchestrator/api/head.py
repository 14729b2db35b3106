"""Reads the head of a request: llhttp parses the fields, and this module checks the framing.

If a head requests another protocol (`Upgrade`, CONNECT), llhttp ends the message there, and the body would be
read as the next request. It therefore only gets heads. `body.py` finds the end of the body from the fields
alone, and `Upgrade` is ignored (RFC 9110, 7.8).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..errors import InvalidRequest

MAX_HEAD_BYTES = 65_536
MAX_FIELDS = 100
END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/1\.([01])\r\n")
_METHOD = re.compile(rb"[A-Z-]{1,20}(?: |$)")
_ABSOLUTE = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
# If these were repeated, a proxy and this server might read different requests or check different keys.
_AT_MOST_ONCE = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-api-key", b"api-key"}
)


class Head:
    """Method, target and fields of a request. Field names are in lower case.

    Attributes:
        headers: the fields by name. If a name is repeated, this has its last value.
        deployment: the model in the path, if it is one of Azure's paths.
    """

    __slots__ = ("_complete", "deployment", "fields", "headers", "http_1_1", "method", "target")

    def __init__(self, method: bytes = b"", target: bytes = b"", *, http_1_1: bool = True) -> None:
        self.method = method
        self.target = target
        self.http_1_1 = http_1_1
        self.fields: list[tuple[bytes, bytes]] = []
        self.headers: dict[bytes, bytes] = {}
        self.deployment = ""
        self._complete = False

    @property
    def keep_alive(self) -> bool:
        """Whether the client may send another request on this connection."""
        if not self.http_1_1:
            return False
        if b"connection" not in self.headers:
            return True
        return not any(
            b"close" in [token.strip() for token in value.lower().split(b",")]
            for name, value in self.fields
            if name == b"connection"
        )

    @property
    def expects_continue(self) -> bool:
        return self.http_1_1 and self.headers.get(b"expect", b"").lower() == b"100-continue"

    @property
    def path(self) -> bytes:
        """The decoded path of the target.

        Raises:
            InvalidRequest: the target is neither a path nor an http URL.
        """
        path = self.target.partition(b"?")[0]
        if not path.startswith(b"/"):
            origin = _ABSOLUTE.match(path)
            if origin is None:
                raise bad_request(f"the request target is neither a path nor an http URL: {path[:80]!r}")
            path = path[origin.end() :] or b"/"
        if b"#" in self.target:
            raise bad_request("the request target contains '#'")
        return unquote_to_bytes(path) if b"%" in path else path

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._complete = True

    def check(self) -> None:
        """Rejects a head that another server might interpret differently.

        Raises:
            InvalidRequest: the head is invalid or ambiguous.
        """
        if not self._complete:
            raise bad_request("the head does not end at its empty line")
        headers = self.headers = dict(self.fields)
        if len(headers) != len(self.fields):
            names = [name for name, _ in self.fields]
            for name in _AT_MOST_ONCE:
                if names.count(name) > 1:
                    raise bad_request(f"the header field {name.decode()} is repeated")
        if self.http_1_1 and b"host" not in headers:
            raise bad_request("the header field host is missing")
        if self.method == b"CONNECT":
            raise InvalidRequest(
                "CONNECT is not supported: this server is not a proxy.",
                status=405,
                code="method_not_allowed",
                headers={"allow": "GET, HEAD, POST"},
            )


def parse_head(data: bytes) -> Head:
    """Parses a head, from the request line to the empty line.

    Raises:
        InvalidRequest: it is ambiguous or not a head of HTTP/1.0 or HTTP/1.1.
    """
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise bad_request(f"invalid request line for HTTP/1.0 or HTTP/1.1: {data[:80]!r}")
    # One CR LF per field, one for the request line and one at the end.
    if len(data) > MAX_HEAD_BYTES or data.count(b"\r\n") > MAX_FIELDS + 2:
        raise head_too_large()
    method, target, minor = line.groups()
    head = Head(method, target, http_1_1=minor == b"1")
    try:
        HttpRequestParser(head).feed_data(data)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise bad_request(str(error)) from None
    head.check()
    return head


def may_become_head(data: bytes) -> bool:
    """Returns whether a head may start with the incomplete `data`; False for TLS and other protocols."""
    return _METHOD.match(data) is not None


def bad_request(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The request is not valid HTTP: {reason}.", code="invalid_http")


def head_too_large() -> InvalidRequest:
    return InvalidRequest(
        f"The request head has more than {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} header fields. Send fewer.",
        status=431,
        code="request_headers_too_large",
    )
