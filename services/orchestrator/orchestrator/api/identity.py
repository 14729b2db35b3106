"""How a client identifies its request: an id and a trace context, which are passed on."""

from __future__ import annotations

import random
import re

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id(headers: dict[bytes, bytes]) -> str:
    """Returns the client's x-request-id if it is safe to log, else a new one."""
    given = headers.get(b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode("latin-1")
    return f"{random.getrandbits(128):032x}"


def trace_context(headers: dict[bytes, bytes]) -> tuple[str, str]:
    """Returns the client's traceparent and tracestate, empty if they are invalid."""
    parent, state = headers.get(b"traceparent", b""), headers.get(b"tracestate", b"")
    if not _TRACEPARENT.fullmatch(parent):
        return "", ""
    return parent.decode(), state.decode() if _TRACESTATE.fullmatch(state) else ""
