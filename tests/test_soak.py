"""A short soak, and that its judge detects every kind of wrong answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from examples.tiers import Tier, free_port, standin_command, start
from tests.soak.answers import Json, Wrong
from tests.soak.cases import FAILED, FIXED, Case, Mix, chat, judge
from tests.soak.client import Balancer, Response
from tests.soak.servers import PROC, SETTINGS
from tests.soak.soak import Soak, table
from tests.soak.traffic import Tally, Traffic
from tests.support.live import live, until


@pytest.mark.timeout(180)  # it starts twelve processes, which run one after the other on a busy machine
@pytest.mark.skipif(not PROC.exists(), reason="file handles and memory are read from /proc")
async def test_every_request_ends_correctly_while_servers_are_killed_and_restarted() -> None:
    soak = Soak(requests=600, kills=2, clients=32, seed=2)
    await soak.run()
    assert not soak.tally.violations, f"{table(soak)}\n" + "\n".join(soak.tally.violations)
    soak.delete_logs()
    report = table(soak)
    assert "killed and restarted: engine-2\n" in report
    assert "killed and restarted: engine-1 and engine-2\n" in report
    assert "restarted: orchestrator-1, with " in report
    assert soak.tally.outcomes.total() == 600


@pytest.fixture
def two_engines() -> Iterator[list[Tier]]:
    engines: list[Tier] = []
    try:
        for _ in range(2):
            port = free_port()
            engines.append(start("engine", standin_command(port), port, "/health"))
        yield engines
    finally:
        for engine in engines:
            engine.stop()


async def test_no_task_or_connection_is_left_in_the_orchestrator(two_engines: list[Tier]) -> None:
    tally = Tally()
    async with live(*(engine.url for engine in two_engines), **SETTINGS) as server:
        texts = {}
        for name, (request, _) in FIXED.items():
            answer = await server.http.post("/v1/chat/completions", json=request)
            texts[name] = answer.json()["choices"][0]["message"]["content"]
        idle = asyncio.all_tasks()
        balancer = Balancer([server.port])
        await Traffic(balancer, Mix(3, texts), tally).run(300, 32)
        balancer.close()
        assert not tally.violations, "\n".join(tally.violations)
        assert tally.left
        await until(lambda: len(server.server.in_flight) == 0)
        await until(lambda: len(server.server.connections) <= 1)  # httpx keeps its own
        await until(lambda: not asyncio.all_tasks() - idle)


# The judge detects wrong answers.

QUESTION = chat("Calculate 6 * 7", "calculate_math", stream=True)
CASE = Case("tools, streamed", QUESTION, "6 * 7 = 42.")
END = b"data: [DONE]\n\n"


def event(delta: Json | None = None, finish: str | None = None, **fields: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "1", "created": 1, "model": "m", "choices": choices, **fields}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ROLE, FINISH = event({"role": "assistant", "content": ""}), event({}, "stop")
TEXT = event({"content": "6 * 7"}) + b": keep-alive\n" + event({"content": " = 42."})
GONE = {"message": "gone", "type": "engine_error", "param": None, "code": "engine_failed"}
BROKEN = b"data: " + json.dumps({"error": GONE}).encode() + b"\n\n"


def streamed(*events: bytes) -> Response:
    return Response(200, {"content-type": "text/event-stream; charset=utf-8"}, b"".join(events))


def test_right_answers_and_clear_errors_pass() -> None:
    assert judge(CASE, streamed(ROLE, TEXT, FINISH, END), engine_killed=False) == "right"
    assert judge(CASE, streamed(ROLE, TEXT, BROKEN), engine_killed=True) == "error, engine killed"
    assert judge(CASE, streamed(ROLE, TEXT, FINISH, BROKEN), engine_killed=True) == "error, engine killed"
    asked = Case("cut off", QUESTION, CASE.text, error=FAILED)
    assert judge(asked, streamed(ROLE, BROKEN), engine_killed=False) == "expected error"


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([ROLE, TEXT, END], id="no finish"),
        pytest.param([ROLE, TEXT, FINISH], id="no [DONE]"),
        pytest.param([ROLE, TEXT], id="no end"),
        pytest.param([ROLE, TEXT, FINISH, FINISH, END], id="two finishes"),
        pytest.param([ROLE, TEXT, FINISH, END, END], id="two [DONE]"),
        pytest.param([ROLE, ROLE, TEXT, FINISH, END], id="two roles"),
        pytest.param([TEXT, FINISH, END], id="no role"),
        pytest.param([ROLE, TEXT, FINISH, event({"content": "."}), END], id="text after the finish"),
        pytest.param([ROLE, TEXT, BROKEN, END], id="[DONE] after an error"),
        pytest.param([ROLE, TEXT, BROKEN, BROKEN], id="two errors"),
        pytest.param([ROLE, FINISH, BROKEN], id="an error after a premature finish"),
        pytest.param([ROLE, TEXT, FINISH, BROKEN, END], id="[DONE] after a finish and an error"),
        pytest.param([ROLE, TEXT, FINISH, END[:-1]], id="cut within an event"),
        pytest.param([ROLE, event({"content": "6 * 7 = 41."}), FINISH, END], id="wrong text"),
        pytest.param([ROLE, event({"content": "7"}), BROKEN], id="wrong text before an error"),
        pytest.param([ROLE, TEXT, event({}, "length"), END], id="wrong finish"),
        pytest.param([ROLE, event({"content": CASE.text}, id="2"), FINISH, END], id="two ids"),
        pytest.param([ROLE, TEXT, FINISH, event(usage={"prompt_tokens": 1}), END], id="incomplete usage"),
        pytest.param([ROLE, TEXT, b"data: {}\n\n", FINISH, END], id="an empty chunk"),
        pytest.param([b'data: {"error": "gone"}\n\n'], id="an error that is not an object"),
    ],
)
def test_any_other_answer_fails(events: list[bytes]) -> None:
    with pytest.raises(Wrong):
        judge(CASE, streamed(*events), engine_killed=True)


def test_error_without_a_reason_fails() -> None:
    with pytest.raises(Wrong):
        judge(CASE, streamed(ROLE, TEXT, BROKEN), engine_killed=False)
    whole = Response(502, {"content-type": "application/json"}, BROKEN[6:])
    with pytest.raises(Wrong):  # a request that is not streamed can be retried, so a kill is not an excuse
        judge(CASE, whole, engine_killed=True)
    with pytest.raises(Wrong):
        judge(Case("cut off", QUESTION, error=FAILED), streamed(ROLE, TEXT, FINISH, END), engine_killed=True)
