"""Events are checked without being parsed, with the same verdict as if they were."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.event_check import EventCheck
from orchestrator.protocol import payloads
from tests.support.scripted_engine import chunk


def event(text: str, field: str = "content", **rest: object) -> bytes:
    delta = {field: text, **rest}
    value = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    return b"data: " + orjson.dumps(value) + b"\n\n"


def is_valid(raw: bytes) -> bool:
    """Parses the event, as the check avoids to do."""
    try:
        return all(isinstance(orjson.loads(payload), dict) for payload in payloads(raw))
    except ValueError:
        return False


def prefix_of_valid_events(blocks: list[bytes]) -> list[bytes]:
    found = []
    for block in blocks:
        raws = block[:-2].split(b"\n\n")
        bad = next((at for at, raw in enumerate(raws) if not is_valid(raw)), len(raws))
        found.append(b"".join(raw + b"\n\n" for raw in raws[:bad]))
        if bad < len(raws):
            break
    return found


def checked(blocks: list[bytes]) -> list[bytes]:
    check, found = EventCheck(), []
    for block in blocks:
        found.append(check.valid(block))
        if found[-1] != block:
            assert check.problem
            break
    return found


ODD_TEXTS = ['"', "\\", "\n", "é", '"content":"', "\\u00e9", "\x00", "{", "}"]
FIELDS = ["content", "text", "reasoning", "other"]
EVENTS = st.builds(
    event,
    st.text(max_size=8) | st.sampled_from(ODD_TEXTS),
    st.sampled_from(FIELDS),
    role=st.sampled_from([None, "x"]),
)
DAMAGE = st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=3))
BLOCKS = st.tuples(st.lists(EVENTS, min_size=1, max_size=5), st.lists(DAMAGE, max_size=2))


def damaged(block: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, put in damage:
        start = at % len(block)
        block = block[:start] + put + block[start + length :]
    return block.rstrip(b"\n").replace(b"\r", b"") + b"\n\n"


@given(st.lists(BLOCKS, max_size=4))
def test_verdict_is_that_of_a_parser(
    blocks: list[tuple[list[bytes], list[tuple[int, int, bytes]]]],
) -> None:
    sent = [damaged(b"".join(events), damage) for events, damage in blocks]
    assert checked(sent) == prefix_of_valid_events(sent)


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {oops}", b"data: ", b'data: {"a": 1', b'data: {"a": 1}}', b"data: 1", b"data: []",
        b"data: null",
        b"ata: {}", b"{}", b"<html>", b"\x00", b'data: {"content":"\xff"}', b'data: {"content":"\\x"}',
        event("a")[:-2].replace(b'"a"', b'"a"b"'), event("a")[:-2].replace(b'"a"', b'"\x01"'),
        event("a")[:-2].replace(b'"a"', b'"\xff"'), event("a")[:-2].replace(b'"a"', b'"\\"'), event("a")[:-3],
        event("a")[1:-2],
    ],
)  # fmt: skip
def test_invalid_event_after_similar_ones_is_found(bad: bytes) -> None:
    good = event("a") + event("b")
    check = EventCheck()
    assert check.valid(good) == good
    assert check.valid(good + bad + b"\n\n" + good) == good
    assert check.problem


@pytest.mark.parametrize(
    "good", [b": ping", b"event: x\ndata: {}", b'data: {"a":\ndata: 1}', b"id: 1", b"retry: 5"]
)
def test_events_without_data_or_with_several_lines_are_valid(good: bytes) -> None:
    check = EventCheck()
    assert check.valid(good + b"\n\n") == good + b"\n\n"
    assert check.problem == ""


def test_similar_events_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0

    def loads(data: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return json.loads(data)

    monkeypatch.setattr("orchestrator.engine.event_check.orjson.loads", loads)
    check = EventCheck()
    block = chunk({"role": "assistant", "content": ""}) + b"".join(
        chunk({"content": f"word {n}"}).replace(b'": "', b'":"') for n in range(50)
    )
    assert check.valid(block) == block
    assert parsed == 2


@pytest.mark.parametrize(
    "block", [b"\n\ngarbage\n\n\n\n", b"\n\n\n\n\n\n", b"garbage\n\n", event("\xff")[:-2] + b"\xff\n\n"]
)
def test_nothing_is_similar_before_an_event_was_parsed(block: bytes) -> None:
    assert not EventCheck().is_similar(block)


def test_single_event_is_similar_only_if_it_is_valid() -> None:
    check = EventCheck()
    check.valid(event("a"))
    assert check.is_similar(event("b"))
    for bad in (event("b") + event("c"), event("b")[:-3] + b"\n\n", event("b").replace(b'"b"', b'"\xff"')):
        assert not check.is_similar(bad)


def test_invalid_text_in_a_later_block_is_found() -> None:
    check = EventCheck()
    check.valid(event("a"))
    bad = event("b").replace(b'"b"', b'"\xff"')
    assert check.valid(event("b") + bad) == event("b")
