"""Engine bytes: answers that are cut, mangled or badly framed, on every route, relayed and in the tool loop.

The client gets what the engine sent, or an error; never a part of it that looks complete, never a 500.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.engine_replies import good
from tests.fuzz.mutate import Edit, edits, mutated, pieces
from tests.fuzz.oracle import DONE, is_clean, is_error, parsed, payloads, terminated
from tests.fuzz.rig import Answer, Failure, Meter, Rig, check_error
from tests.fuzz.target import Case, Target
from tests.support.scripted_engine import Exchange, Reply, call_deltas, chunk, counts

_CHAT, _RESPONSES = "/v1/chat/completions", "/v1/responses"
_MOST_ASKED = 6
"""A request is sent three times at most, and again for each kept connection that turns out to be closed."""
_ENGINE_ERRORS = frozenset({502, 503, 504})
_TOOL = {"type": "function", "function": {"name": "calculate_math"}}
_TEXT = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Hello"}) + chunk({"content": " you"})
_USAGE = chunk(None, usage=counts(10, 5))
_LAST = b"data: [DONE]\n\n"
_CALL = b"".join(chunk(delta) for delta in call_deltas("calculate_math", '{"expression": "6*7"}'))
_ERROR = b'data: {"error": {"message": "boom", "type": "x", "param": null, "code": 400}}\n\n'
_RESPONSE = {"id": "resp-1", "object": "response", "model": "m", "status": "completed", "usage": None}
STREAMS = (
    _TEXT + chunk({}, "stop") + _USAGE + _LAST,
    _TEXT + chunk({}, "length") + _LAST,
    _TEXT + _CALL + chunk({}, "tool_calls") + _USAGE + _LAST,
    b": ping\n\n" + _TEXT + _ERROR + _LAST,
)
RESPONSES = tuple(
    b"".join(
        b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())
        for kind, fields in (
            ("response.created", {"response": {**_RESPONSE, "status": "in_progress"}}),
            ("response.output_text.delta", {"delta": "Hello"}),
            (end, {"response": _RESPONSE}),
        )
    )
    for end in ("response.completed", "response.incomplete")
)
_MESSAGE = {"role": "assistant", "content": "Hello"}
_CALLED = {"id": "c", "type": "function", "function": {"name": "calculate_math", "arguments": "{}"}}
_CALLING = {**_MESSAGE, "tool_calls": [_CALLED]}
WHOLES = tuple(
    json.dumps(value).encode()
    for value in (
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": counts(1, 2),
         "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}]},
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": counts(1, 2),
         "choices": [{"index": 0, "message": _CALLING, "finish_reason": "tool_calls"}]},
        {"object": "list", "data": [{"embedding": [0.5]}], "model": "m", "usage": counts(1, 0)},
        {"error": {"message": "boom", "type": "x", "param": None, "code": 400}},
        {"detail": "Not Found"},
    )
)  # fmt: skip
TOKENS = (
    "\n\n", "\n", "\r\n", "\r", "data: ", "data:", "event: x\n", ": c\n\n", "id: 1\n", "retry: 1\n\n",
    "[DONE]", "data: [DONE]\n\n", "data: {}\n\n", "data: 1\n\n", "data: null\n\n",
    "data: {\"choices\": null}\n\n", "data: {\"choices\": [null]}\n\n",
    "data: {\"choices\": [{\"delta\": null}]}\n\n", "data: {oops}\n\n",
    "data: {\"choices\": [{\"index\": 1, \"delta\": {\"content\": 5}}]}\n\n", _ERROR.decode(),
    "data: {\"choices\": [{\"delta\": {\"tool_calls\": [{\"index\": 7, \"function\": null}]}}]}\n\n",
    "\"usage\": null,", "\"usage\": 5,", "18446744073709551615", "-5",
    "\"usage\": {\"total_tokens\": \"x\"},", "\"error\": \"x\",", "null",
    "{}", "[]", "-1", "1e999", "NaN", "\\ud800", "\xff", "\0", "\"index\": 99999999,",
    "\"logprobs\": {\"content\": [null, {\"bytes\": [999]}]},", "\"logprobs\": [1],",
    "\"token_ids\": {\"a\": 5},", "\"token_ids\": [[]],", "\"tool_calls\": [],", "\"tool_calls\": {},",
)  # fmt: skip
_HTTP_TOKENS = (
    *TOKENS[:9], "HTTP/1.1 200 OK\r\n", "HTTP/1.1 101 X\r\n", "HTTP/1.1 103 X\r\n\r\n", "299", "306",
    "399", "419", "499", "599", "999", "100", "204", "304", "content-length: 5\r\n",
    "content-length: -1\r\n", "transfer-encoding: gzip\r\n", "connection: close\r\n",
    "content-encoding: gzip\r\n", "content-type: text/html\r\n", "retry-after: x\r\n", "0\r\n\r\n",
    "ffffffff\r\n",
)  # fmt: skip


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    route = draw(st.sampled_from((_CHAT, _CHAT, _CHAT, "/v1/completions", "/v1/embeddings", _RESPONSES)))
    streams = draw(st.booleans())
    bases = (RESPONSES if route == _RESPONSES else STREAMS) if streams else WHOLES
    code = b'"code": %d' % draw(st.just(400) | st.integers(100, 700))
    body = draw(st.sampled_from(bases)).replace(b'"code": 400', code)
    changes: list[Edit] = draw(edits(TOKENS))
    case: Case = {
        "route": route,
        "stream": streams,
        "tools": route == _CHAT and draw(st.booleans()),
        "usage": draw(st.booleans()),
        "logprobs": draw(st.booleans()),
        "status": draw(st.just(200) | st.just(200) | st.just(200) | st.integers(200, 620)),
        "framing": draw(st.sampled_from(("chunked", "length", "close"))),
        "lost": draw(st.sampled_from((0, 0, 0, 1, 2, 5, 30))),
        "body": mutated(body, changes).decode("latin-1"),
        "cuts": draw(st.lists(st.integers(0, 1000), max_size=4)),
    }
    if draw(st.integers(0, 4)) == 0:
        case["raw"] = mutated(_framed(case), draw(edits(_HTTP_TOKENS, most=3))).decode("latin-1")
    return case


def _framed(case: Case) -> bytes:
    """Returns the bytes of the engine's HTTP answer."""
    body: bytes = case["body"].encode("latin-1")
    kind = "text/event-stream; charset=utf-8" if case["stream"] else "application/json"
    head = f"HTTP/1.1 {case['status']} X\r\ncontent-type: {kind}\r\n".encode()
    if case["framing"] == "length":
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    if case["framing"] == "close":
        return head + b"\r\n" + body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in pieces(body, case["cuts"]))
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def _reply(case: Case) -> Reply:
    lost = case["lost"]
    data = case["raw"].encode("latin-1") if "raw" in case else _framed(case)

    async def reply(exchange: Exchange) -> None:
        if b'"role":"tool"' in exchange.request.body:
            await good(exchange)  # the next round of a tool loop
            return
        for part in pieces(data[: len(data) - lost], case["cuts"]):
            await exchange.write(part)
        if lost or "raw" in case or case["framing"] == "close":
            exchange.writer.close()
            await exchange.writer.wait_closed()
            raise ConnectionError("closed on purpose")

    return reply


def check(rig: Rig, case: Case) -> None:
    meter = Meter(rig)
    rig.run(_ask(rig, case))
    meter.check()


async def _ask(rig: Rig, case: Case) -> None:
    rig.engine.otherwise = _reply(case)  # also for what is sent again
    rig.asked()
    payload: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "stream": case["stream"]}
    if case["tools"]:
        payload["tools"] = [_TOOL]
    if case.get("logprobs"):
        payload["logprobs"] = True
    if case["stream"] and case["usage"] and case["route"] != _RESPONSES:
        payload["stream_options"] = {"include_usage": True}
    answer = await rig.post_json(case["route"], payload)
    asked = len(rig.asked())
    if not 1 <= asked <= _MOST_ASKED * (1 + case["tools"]):
        raise Failure(f"the engine was asked {asked} times; status {answer.status}: {answer.body[:300]!r}")
    judge(case, answer)


def judge(case: Case, answer: Answer) -> None:
    """Compares the client's answer with what the engine sent.

    Raises:
        Failure: something is missing without an error, or an error has no reason.
    """
    if answer.status >= 400:
        if not answer.whole:
            raise Failure("the error ends early")
        check_error(answer, _ENGINE_ERRORS)
    elif answer.status < 200 or (answer.status >= 300 and "raw" not in case and case["status"] < 300):
        raise Failure(f"unexpected status {answer.status}")
    elif answer.is_stream and answer.status < 300:
        _judge_stream(case, answer)
    elif not answer.whole:
        raise Failure("a whole answer ends early")
    if "raw" not in case:
        _judge_body(case, answer)


def _judge_stream(case: Case, answer: Answer) -> None:
    got = payloads(answer.body)
    done, errors = got.count(DONE), sum(map(is_error, got))
    if errors and not is_error(got[-1]):
        raise Failure(f"something follows the error: {got[-1][:200]!r}")
    if done + errors > 1 or (done and got[-1] != DONE):
        raise Failure(f"{done} [DONE] and {errors} errors in one stream")
    ended = done or errors or (case["route"] == _RESPONSES and terminated(_RESPONSES, got) is not None)
    if answer.whole and not ended:
        raise Failure(f"the stream ends like a complete one, without its end: {answer.body[-300:]!r}")
    if not answer.whole:
        raise Failure(f"the stream was cut without an error: {answer.body[-300:]!r}")


def _judge_body(case: Case, answer: Answer) -> None:
    body = case["body"].encode("latin-1")
    if case["stream"] and case["status"] == 200:
        sent = payloads(body)
        count = terminated(case["route"], sent)
        valid = (
            count is not None
            and is_clean(body[: body.find(sent[count - 1])] if case["route"] == _RESPONSES else body)
            and all(
                payload == DONE or (isinstance(parsed(payload), dict) and not is_error(payload))
                for payload in sent[:count]
            )
        )
        got = payloads(answer.body) if answer.status == 200 else []
        complete = bool(got) and not is_error(got[-1])
        if complete and not valid:
            raise Failure(f"looks complete, but the engine sent {body[-300:]!r}")
        if not complete and valid and not case["lost"] and not case["tools"]:
            raise Failure(f"a complete answer became {answer.body[-300:]!r}")
        if complete and not case["tools"] and _shown(got) != _shown(sent[:count]):
            raise Failure(f"the client got {got!r}")
    elif (
        case["status"] == answer.status == 200
        and not case["tools"]
        and (answer.body != body or not isinstance(parsed(body), dict))
    ):
        raise Failure(f"passed on as whole: {answer.body[:300]!r}")


def _shown(events: list[bytes]) -> list[Any]:
    """Returns the values of events without usage, which is not always passed on as it is."""
    values = [parsed(payload) or payload for payload in events]
    plain = [value for value in values if not isinstance(value, dict)]
    chunks = [value for value in values if isinstance(value, dict)]
    chunks = [value for value in chunks if not ("usage" in value and value.get("choices") == [])]
    return [plain, [{key: value for key, value in chunk.items() if key != "usage"} for chunk in chunks]]


TARGET = Target("engine_bytes", _cases(), check)
