"""Tests a deployment with requests like those of its users, through the official client."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from .report import Result, Status
from .served import Served, Starting, Unexpected, ask, first_of, others_of, served
from .waiting import Waiting

WEATHER: Any = {"type": "function", "function": {"name": "get_current_weather"}}
MATH: Any = {"type": "function", "function": {"name": "calculate_math"}}
CLIENT_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "description": "Look up the state of an order.",
        "parameters": {
            "type": "object",
            "properties": {"order_id": {"type": "string"}},
            "required": ["order_id"],
        },
    },
}
LONG_SECONDS = 60.0
"""The default idle timeout of a load balancer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits in seconds.

    A connection takes milliseconds, and the list of models comes from a cache. A request may wait 30 s for an
    engine, and none of the answers is long. While an engine starts, heartbeats keep a stream alive.
    """

    connect: float = 5
    models: float = 15
    answer: float = 120
    report_after: float = 10


PATIENCE = Patience()
_MOST_LONG_TOKENS = 8000
_NO_ANSWER = "no answer within"


@dataclass(frozen=True, slots=True)
class Target:
    """The server to test. `url` ends in /v1; without a key, the server must accept all requests.

    With `connect_to`, requests go to that HOST or HOST:PORT instead, with the URL's host as the TLS server
    name: the certificate is checked as usual, and DNS records are not needed yet. `token` is for a load
    balancer that verifies tokens; the key is then sent in X-API-Key.
    """

    url: str
    key: str | None
    model: str | None = None
    connect_to: str | None = None
    token: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers besides Authorization."""
        return {"X-API-Key": self.key} if self.token and self.key else {}


def smoke(target: Target, *, long_seconds: float | None = None) -> list[Result]:
    """Returns a result per request; `long_seconds` adds an answer that takes longer than that.

    It reports what takes long. If the server gives no answer to a question, it skips the others.
    """
    waiting = Waiting(PATIENCE.report_after)
    with openai.OpenAI(
        base_url=target.url,
        api_key=target.token or target.key or "none",
        default_headers=target.headers,
        max_retries=0,
        timeout=openai.Timeout(PATIENCE.answer, connect=PATIENCE.connect),
        http_client=openai.DefaultHttpxClient(event_hooks={"request": [_connecting_to(target.connect_to)]}),
    ) as client:
        results = [_result("models", lambda: _models(client), target, waiting)]
        if results[0].status is not Status.OK:
            return results
        listed = served(client.models.list().data)
        model = first_of(listed, target.model)
        if model.sleeps and model.chats:
            results.append(_result("start of the engine", lambda: _wake(client, model.name), target, waiting))
            if results[-1].status is not Status.OK:
                return results
        others = [] if target.model else others_of(listed, model)
        for subject, question in _questions(client, model, others, target, long_seconds):
            results.append(_result(subject, question, target, waiting))
            if results[-1].found.startswith(_NO_ANSWER):
                results.append(Result(Status.UNKNOWN, "other tests", "skipped: the server does not answer"))
                return results
        if not target.key:
            results.append(Result(Status.UNKNOWN, "wrong key", "skipped: needs a key", "--key KEY"))
        return results


def _questions(
    client: openai.OpenAI, first: Served, others: Sequence[Served], target: Target, long_seconds: float | None
) -> Iterator[tuple[str, Callable[[], str]]]:
    if first.chats:
        yield from _chats(client, first.name, long_seconds)
    else:
        others = [first, *others]
    for one in others:
        yield f"{one.kind} of {one.name}", functools.partial(ask, client, one)
    if target.key:
        yield "wrong key", lambda: _wrong_key(client, first.name, target)


def _chats(
    client: openai.OpenAI, model: str, long_seconds: float | None
) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "chat", lambda: _chat(client, model)
    yield "streamed chat", lambda: _streamed(client, model)
    weather = "What is the weather in San Francisco?"
    yield "weather", lambda: _server_tool(client, model, WEATHER, weather, "temperature")
    yield "calculator", lambda: _server_tool(client, model, MATH, "Calculate 123 * 456", "56088")
    yield "client-side tool", lambda: _client_tool(client, model)
    if long_seconds is not None:
        yield "long answer", lambda: _long(client, model, long_seconds)


def _connecting_to(address: str | None) -> Callable[[Any], None]:
    """Returns a hook that sends requests to another address than the URL's; Host and TLS server name stay."""
    host, _, port = (address or "").partition(":")

    def redirect(request: Any) -> None:
        if host:
            request.extensions["sni_hostname"] = request.url.host
            request.url = request.url.copy_with(host=host, port=int(port) if port else request.url.port)

    return redirect


def _result(subject: str, ask: Callable[[], str], target: Target, waiting: Waiting) -> Result:
    start = time.monotonic()
    try:
        with waiting.on(f"{subject} of {target.url}"):
            found = ask()
    except Unexpected as error:
        return Result(Status.ERROR, subject, str(error))
    except Starting as error:
        return Result(Status.UNKNOWN, subject, str(error), f"make smoke ARGS='--model {error.model}', later")
    except openai.APIError as error:
        found, fix = _explain(error, target, time.monotonic() - start)
        return Result(Status.ERROR, subject, found, fix)
    return Result(Status.OK, subject, f"{found}  ({time.monotonic() - start:.2f} s)")


def _explain(error: openai.APIError, target: Target, seconds: float) -> tuple[str, str]:
    """Explains an error of the client; returns a message and the command that fixes it or shows more."""
    match error:
        case openai.APITimeoutError():
            return f"{_NO_ANSWER} {round(seconds, 1):g} s", "make logs"
        case openai.APIConnectionError():
            return f"{target.url} cannot be reached: {error.__cause__ or error}", "make doctor"
        case openai.AuthenticationError():
            return f"the key was rejected: {_message(error)}", "make keys ARGS=list"
        case openai.APIStatusError():
            return f"{error.status_code}: {_message(error)}", "make logs"
    return error.message, "make logs"  # an error in the middle of a stream


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body.get("message", error.message) if isinstance(body, dict) else error.message)


def _models(client: openai.OpenAI) -> str:
    models = [model.id for model in client.models.list(timeout=PATIENCE.models).data]
    if not models:
        raise Unexpected("the list of models is empty")
    return ", ".join(models)


def _wake(client: openai.OpenAI, model: str) -> str:
    """Waits for the engine with a stream, which the server holds until the engine answers."""
    stream = client.chat.completions.create(
        model=model, max_tokens=1, messages=[{"role": "user", "content": "Say hello."}], stream=True
    )
    if not any(chunk.choices for chunk in stream):
        raise Unexpected("the stream ended without an answer")
    return "an engine was started by a request"


def _chat(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model, temperature=0, max_tokens=64, messages=[{"role": "user", "content": "Say hello."}]
    )
    return _shown(_text(answer))


def _streamed(client: openai.OpenAI, model: str) -> str:
    """Measures time to first token, and tokens per second from the first to the last."""
    start = time.monotonic()
    first = None
    tokens = 0
    stream = client.chat.completions.create(
        model=model,
        temperature=0,
        max_tokens=128,
        messages=[{"role": "user", "content": "Tell me in a few sentences what a load balancer does."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    finished = False
    for chunk in stream:
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.monotonic()
        finished = finished or bool(chunk.choices and chunk.choices[0].finish_reason)
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    if first is None or not finished:
        raise Unexpected("the stream ended without " + ("any text" if first is None else "a finish reason"))
    rate = (tokens - 1) / max(time.monotonic() - first, 1e-6)
    speed = f", {rate:,.0f} tokens/s" if tokens > 1 else ""
    return f"first token after {first - start:.2f} s{speed}"


def _server_tool(client: openai.OpenAI, model: str, tool: Any, question: str, result: str) -> str:
    """Checks that the server ran the tool with `result` in its output, and that the model answered."""
    answer = client.chat.completions.create(
        model=model,
        temperature=0,
        messages=[{"role": "user", "content": question}],
        tools=[tool],
        extra_body={"tandem": {"events": True}},
    )
    events = ((answer.model_extra or {}).get("tandem") or {}).get("events", [])
    results = [str(event["result"]) for event in events if event["type"] == "tool_call.finished"]
    if not results:
        raise Unexpected(f"the model did not call the tool, but answered: {_shown(_text(answer))}")
    if not any(result in one for one in results):
        raise Unexpected(f"the tool returned {_shown(results[-1])}")
    return _shown(_text(answer))


def _client_tool(client: openai.OpenAI, model: str) -> str:
    """Checks that the call comes back as an ordinary tool call, and that its result is accepted."""
    question: Any = {"role": "user", "content": "What is the state of order A-17?"}
    name = CLIENT_TOOL["function"]["name"]
    asked = client.chat.completions.create(
        model=model,
        temperature=0,
        messages=[question],
        tools=[CLIENT_TOOL],
        tool_choice={"type": "function", "function": {"name": name}},
    )
    calls = asked.choices[0].message.tool_calls or []
    if len(calls) != 1 or calls[0].type != "function" or calls[0].function.name != name:
        raise Unexpected(f"expected one call to {name}, got {len(calls)}: {asked.choices[0].message}")
    try:
        json.loads(calls[0].function.arguments)
    except ValueError:
        raise Unexpected(f"the call's arguments are not JSON: {calls[0].function.arguments}") from None
    answer = client.chat.completions.create(
        model=model,
        temperature=0,
        max_tokens=128,
        messages=[
            question,
            {"role": "assistant", "tool_calls": [calls[0].model_dump()]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": calls[0].id, "content": '{"state": "shipped"}'},
        ],
        tools=[CLIENT_TOOL],
    )
    return _shown(_text(answer))


def _wrong_key(client: openai.OpenAI, model: str, target: Target) -> str:
    wrong = "sk-a-key-that-nobody-has"
    options: Any = {"default_headers": {"X-API-Key": wrong}} if target.token else {"api_key": wrong}
    try:
        client.with_options(**options).chat.completions.create(
            model=model, max_tokens=1, messages=[{"role": "user", "content": "x"}]
        )
    except openai.AuthenticationError:
        return "rejected with 401"
    raise Unexpected("an unknown key was accepted: no keys are configured")


def _long(client: openai.OpenAI, model: str, seconds: float) -> str:
    start = time.monotonic()
    pieces = 0
    stream = client.chat.completions.create(
        model=model,
        max_tokens=_MOST_LONG_TOKENS,
        messages=[{"role": "user", "content": "Count from 1 to 5000, one number per line."}],
        stream=True,
        extra_body={"ignore_eos": True},  # vLLM's own field: continues until max_tokens
    )
    for chunk in stream:
        pieces += bool(chunk.choices)
        if time.monotonic() - start > seconds:
            stream.close()
            return f"{pieces} chunks in {seconds:g} s, still streaming"
    raise Unexpected(
        f"the answer ended after {time.monotonic() - start:.0f} s, too soon to test {seconds:g} s"
    )


def _text(answer: ChatCompletion) -> str:
    text = answer.choices[0].message.content
    if not text or not text.strip():
        raise Unexpected(f"the answer is empty (finish reason {answer.choices[0].finish_reason})")
    return text


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 48 else f"{line[:47]}…"
