"""Compressed request bodies: decoded within the limits of size and memory, or rejected with a reason."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.encoding import CODINGS, decoded
from orchestrator.errors import InvalidRequest
from tests.support.live import Live, live
from tests.support.raw_http import answer as read_answer
from tests.support.raw_http import connected, request
from tests.support.scripted_engine import ScriptedEngine, whole

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress, b"deflate": zlib.compress, b"br": brotli.compress, b"zstd": zstd.compress,
}  # fmt: skip
CHAT = "/v1/chat/completions"
REQUEST = json.dumps({"messages": [{"role": "user", "content": "Grüezi"}]}).encode()
MATH = {"type": "function", "function": {"name": "calculate_math"}}
LIMIT = 8_388_608


def decode(body: bytes, coding: bytes, limit: int = LIMIT) -> bytes:
    return b"".join(decoded(body, coding, limit))


def test_every_supported_coding_is_tested() -> None:
    assert set(CODINGS) == set(ENCODERS)


@pytest.mark.parametrize("coding", CODINGS)
@settings(max_examples=25)
@given(content=st.binary(max_size=200), repeat=st.sampled_from([1, 7, 500]))
def test_any_content_is_decoded(coding: bytes, content: bytes, repeat: int) -> None:
    assert decode(ENCODERS[coding](content * repeat), coding) == content * repeat


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [65_536, 1_048_576, 2_097_152, 3_000_001])
def test_content_that_ends_at_the_end_of_a_part_is_decoded(coding: bytes, size: int) -> None:
    for content in (bytes(size), os.urandom(size)):
        assert decode(ENCODERS[coding](content), coding) == content


@pytest.mark.parametrize("coding", CODINGS)
@settings(max_examples=25)
@given(keep=st.integers(0, 40))
def test_incomplete_content_is_rejected(coding: bytes, keep: int) -> None:
    encoded = ENCODERS[coding](REQUEST)
    with pytest.raises(InvalidRequest, match=coding.decode()):
        decode(encoded[: min(keep, len(encoded) - 1)], coding)


@pytest.mark.parametrize("coding", CODINGS)
def test_what_follows_the_content_is_not_ignored(coding: bytes) -> None:
    with pytest.raises(InvalidRequest, match=coding.decode()):
        decode(ENCODERS[coding](REQUEST) + b"junk", coding)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_frames_are_joined_but_not_without_limit(coding: bytes) -> None:
    frame = ENCODERS[coding](b"ab")
    assert decode(64 * frame, coding) == 64 * b"ab"
    with pytest.raises(InvalidRequest, match="more than 64 frames"):
        decode(100_000 * frame, coding)


@pytest.mark.parametrize("coding", CODINGS)
def test_bomb_is_noticed_while_it_is_decoded(coding: bytes) -> None:
    parts = decoded(ENCODERS[coding](bytes(20_000_000)), coding, LIMIT)
    read = 0
    with pytest.raises(InvalidRequest) as raised:  # noqa: PT012
        for part in parts:
            assert len(part) < 4_000_000
            read += len(part)
    assert raised.value.status == 413
    assert read <= LIMIT


def test_zstd_window_is_bounded() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    huge = zstd.compress(os.urandom(1000) * 20_000, options=options)
    with pytest.raises(InvalidRequest, match="zstd"):
        decode(huge, b"zstd")


@pytest.mark.parametrize("tools", [None, [MATH]])
@pytest.mark.parametrize("coding", [*CODINGS, b"x-gzip", b"GZIP", b"identity", b""])
async def test_engine_gets_the_decoded_request(
    server: Live, engine: ScriptedEngine, coding: bytes, tools: object
) -> None:
    request = {**json.loads(REQUEST), **({"tools": tools} if tools else {})}
    encode = ENCODERS.get(coding.lower().removeprefix(b"x-"), bytes)
    engine.play(whole("ok"))
    answer = await server.http.post(
        CHAT, content=encode(json.dumps(request).encode()), headers={b"content-encoding": coding}
    )
    assert answer.status_code == 200
    assert "content-encoding" not in engine.requests[0].headers
    assert engine.requests[0].json["messages"] == request["messages"]


@pytest.mark.parametrize("coding", ["compress", "snappy", "gzip, br", "gzip;q=1"])
async def test_other_codings_are_rejected_with_the_supported_ones(server: Live, coding: str) -> None:
    answer = await server.http.post(CHAT, content=b"x", headers={"content-encoding": coding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate, br, zstd"
    assert answer.json()["error"]["code"] == "unsupported_content_encoding"


async def test_other_codings_are_rejected_before_the_body(server: Live) -> None:
    head = request("POST", CHAT, "Content-Encoding: lzma", "Content-Length: 1000", "Expect: 100-continue")
    async with connected(server) as (reader, writer):
        writer.write(head)
        answer = await read_answer(reader)
    assert answer.status == 415
    assert answer.error["code"] == "unsupported_content_encoding"


@pytest.mark.parametrize("coding", CODINGS)
async def test_body_in_another_coding_is_rejected(server: Live, coding: bytes) -> None:
    answer = await server.http.post(CHAT, content=REQUEST, headers={b"content-encoding": coding})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_content_encoding")


async def test_key_is_checked_first(engine: ScriptedEngine) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY="sk-0123456789abcdef") as server:
        for coding in ("gzip", "lzma"):
            answer = await server.http.post(CHAT, content=b"x", headers={"content-encoding": coding})
            assert answer.status_code == 401


@pytest.mark.parametrize("coding", CODINGS)
async def test_decoded_body_counts_towards_the_limits(engine: ScriptedEngine, coding: bytes) -> None:
    limits = {"MAX_BODY_BYTES": "25000000", "MEMORY_BUDGET_BYTES": "16777216"}
    headers = {b"content-encoding": coding}
    async with live(engine.url, **limits) as server:
        refused = await server.http.post(CHAT, content=ENCODERS[coding](bytes(20_000_000)), headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "memory_budget")
        engine.play(whole("ok"))
        fine = await server.http.post(CHAT, content=ENCODERS[coding](REQUEST), headers=headers)
        assert fine.status_code == 200
        assert server.app.in_flight.budget.used == 0
    async with live(engine.url, MAX_BODY_BYTES="4096") as server:
        refused = await server.http.post(CHAT, content=ENCODERS[coding](bytes(5000)), headers=headers)
        assert refused.status_code == 413
