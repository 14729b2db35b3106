"""Every failure that the fuzzer found stays fixed; the fuzzer finds, shrinks, repeats and stores failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz import campaign, regressions
from tests.fuzz.mutate import mutated, pieces
from tests.fuzz.rig import Answer, Failure, Rig, check_error, read_answers
from tests.fuzz.target import Case, Target
from tests.fuzz.targets import TARGETS
from tests.fuzz.targets.engine_bytes import STREAMS, WHOLES, judge


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as running:
        yield running


@pytest.mark.parametrize("file", regressions.files(), ids=lambda file: file.stem)
def test_failure_that_was_found_stays_fixed(rig: Rig, file: Path) -> None:
    target, case = regressions.load(file)
    rig.serve(TARGETS[target].models)
    TARGETS[target].check(rig, case)


@pytest.mark.parametrize("name", TARGETS)
def test_generated_cases_pass_and_can_be_stored(rig: Rig, name: str) -> None:
    seen: list[Case] = []

    def check(rig: Rig, case: Case) -> None:
        seen.append(case)
        TARGETS[name].check(rig, case)

    result = campaign.run(replace(TARGETS[name], check=check), rig, seed=1, seconds=1)
    assert not result.reason, (result.reason, result.case)
    assert seen
    assert json.loads(json.dumps(seen)) == seen


# The campaign


def numbers(check: Any) -> Target:
    return Target("numbers", st.fixed_dictionaries({"number": st.integers(0, 10_000)}), check)


def test_same_seed_gives_the_same_cases(rig: Rig) -> None:
    def drawn(seed: int) -> list[int]:
        seen: list[int] = []

        def check(_: Rig, case: Case) -> None:
            seen.append(case["number"])
            if len(seen) == 3 * campaign.BATCH:
                raise Failure("enough")

        campaign.run(numbers(check), rig, seed=seed, seconds=20)
        return seen[: 2 * campaign.BATCH]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_smallest_failing_case_is_stored_and_replayed(rig: Rig, tmp_path: Path) -> None:
    def check(_: Rig, case: Case) -> None:
        if case["number"] >= 1234:
            raise Failure("too large")

    result = campaign.run(numbers(check), rig, seed=1, seconds=20)
    assert (result.case, result.reason) == ({"number": 1234}, "too large")
    path = regressions.store("numbers", {"number": 1234}, result.reason, 1, tmp_path)
    assert regressions.files(tmp_path) == [path]
    assert regressions.load(path) == ("numbers", {"number": 1234})
    assert regressions.store("numbers", {"number": 1234}, "another reason", 2, tmp_path) == path


def test_growth_is_a_failure(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter(range(100, 100_000, 100))
    monkeypatch.setattr(rig, "memory_mib", lambda: float(next(sizes)))
    result = campaign.run(numbers(lambda *_: None), rig, seed=1, seconds=1)
    assert "the orchestrator grew from 100 to" in result.reason
    assert result.case is None


def test_dead_orchestrator_is_a_failure_and_is_started_again() -> None:
    with Rig() as rig:

        def check(rig: Rig, case: Case) -> None:
            rig.service.terminate()
            rig.service.ended()
            rig.check_alive()

        result = campaign.run(numbers(check), rig, seed=1, seconds=2)
        assert "the orchestrator exited" in result.reason
        rig.check_alive()


# The mutator


def test_mutator_keeps_bytes_that_are_not_edited_and_reaches_every_place() -> None:
    data = bytes(range(100))
    assert mutated(data, []) == data
    edit = {"kind": "insert", "at": 500, "size": 1, "data": "new"}
    assert mutated(data, [edit]) == data[:50] + b"new" + data[50:]
    assert mutated(data, [{**edit, "kind": "cut"}]) == data[:50]
    assert mutated(data, [{**edit, "kind": "delete", "size": 4}]) == data[:50] + data[54:]
    assert mutated(data, [{**edit, "kind": "swap", "size": 2}])[49:55] == bytes([49, 52, 53, 50, 51, 54])
    assert mutated(b"", [{**edit, "kind": "flip"}]) == b""
    assert b"".join(pieces(data, [0, 1000, 333, 333])) == data


# The judges

CASE = {"route": "/v1/chat/completions", "stream": True, "tools": False, "status": 200, "lost": 0}
SENT: dict[str, Any] = {**CASE, "body": STREAMS[0].decode()}
ERROR = b'data: {"error": {"message": "boom", "type": "x", "param": null, "code": "engine_failed"}}\n\n'
DONE = b"data: [DONE]\n\n"


def streamed(body: bytes, *, whole: bool = True) -> Answer:
    return Answer(200, {"content-type": "text/event-stream"}, body, whole)


def test_right_answers_pass() -> None:
    judge(SENT, streamed(STREAMS[0]))
    judge({**SENT, "body": STREAMS[0].removesuffix(DONE).decode()}, streamed(STREAMS[0][:-14] + ERROR))
    judge({**CASE, "stream": False, "body": WHOLES[0].decode()}, Answer(200, {}, WHOLES[0]))


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param(STREAMS[0], streamed(STREAMS[0].removesuffix(DONE)), id="no end"),
        pytest.param(STREAMS[0], streamed(STREAMS[0], whole=False), id="cut"),
        pytest.param(STREAMS[0], streamed(STREAMS[0] + ERROR), id="an error after the end"),
        pytest.param(STREAMS[0], streamed(ERROR + STREAMS[0]), id="an error before the end"),
        pytest.param(STREAMS[0], streamed(ERROR), id="an error without a reason"),
        pytest.param(STREAMS[0], streamed(STREAMS[1]), id="other events"),
        pytest.param(STREAMS[0].removesuffix(DONE), streamed(STREAMS[0]), id="an end that was not sent"),
        pytest.param(STREAMS[0], Answer(500, {}, ERROR[6:]), id="status 500"),
        pytest.param(STREAMS[0], Answer(302, {}, b""), id="status 302"),
    ],
)
def test_wrong_answers_fail(body: bytes, answer: Answer) -> None:
    with pytest.raises(Failure):
        judge({**CASE, "body": body.decode()}, answer)


def test_whole_answer_that_was_changed_or_is_not_json_fails() -> None:
    for sent, got in ((WHOLES[0], WHOLES[1]), (b'{"a":', b'{"a":'), (b"[]", b"[]")):
        with pytest.raises(Failure):
            judge({**CASE, "stream": False, "body": sent.decode()}, Answer(200, {}, got))


def test_only_http_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    two = b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"ok" + head + b"ok"
    assert [one.body for one in read_answers(two)] == [b"ok", b"ok"]
    assert not read_answers(head + b"o")[0].whole
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
    assert read_answers(chunked + b"0\r\n\r\n")[0].whole
    assert not read_answers(chunked)[0].whole
    with pytest.raises(Failure):
        read_answers(head + b"ok" + b"more")
    with pytest.raises(Failure):
        check_error(Answer(400, {}, b"Bad Request"))
