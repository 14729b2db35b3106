"""The requests of the soak, each with its one correct answer."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from examples.tiers import MODEL
from tests.soak.answers import Json, Reply, Wrong, read
from tests.soak.client import NEVER, Leave, Response

Error = tuple[int, int | str]
"""Status and code of an error."""
REFUSED: Error = (400, "400")
FAILED: Error = (502, "engine_failed")
UNAVAILABLE: Error = (503, "engine_unavailable")
INVALID: Error = (400, "invalid_request")

_SAMPLE_TOOLS = ("calculate_math", "get_current_weather", "query_database")
_MAIL: Json = {
    "type": "function",
    "function": {
        "name": "send_mail",
        "description": "Send a mail",
        "parameters": {
            "type": "object",
            "properties": {"subject": {"type": "string"}},
            "required": ["subject"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Case:
    """A request and its expected outcome."""

    kind: str
    request: Json
    text: str = ""
    """The whole text of the correct answer; the text before an error must be a prefix of it."""
    mail_about: str | None = None
    """The subject of the one call that is returned to the client."""
    results: tuple[str, ...] = ()
    """The results of the server's calls, if the request asks for events."""
    error: Error | None = None
    """The expected error."""
    leave: Leave = NEVER


def judge(case: Case, response: Response, *, engine_killed: bool) -> str:
    """Judges a response; returns the outcome as a column heading of the table.

    Args:
        engine_killed: Whether an engine was killed during the request. Only a stream that had started may end
            with an error because of that, since anything else can be retried.

    Raises:
        Wrong: The answer is not the expected one.
    """
    try:
        reply = read(response)
        if reply.error is None:
            _check_answer(case, reply)
            return "right"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Wrong(f"{type(error).__name__}: {error} in {response.body[-300:]!r}") from None
    if reply.text != case.text if reply.finish else not case.text.startswith(reply.text):
        raise Wrong(f"an error after the wrong text: {reply.text!r}")
    if (
        case.error
        and reply.error["code"] == case.error[1]
        and (response.is_stream or reply.status == case.error[0])
    ):
        return "expected error"
    if engine_killed and response.is_stream and reply.error["code"] == FAILED[1]:
        return "error, engine killed"
    raise Wrong(f"{reply.status}, an unexpected error: {reply.error}")


def _check_answer(case: Case, reply: Reply) -> None:
    if case.error:
        raise Wrong(f"an answer instead of the error {case.error}: {reply}")
    if reply.text != case.text:
        raise Wrong(f"the text is {reply.text!r}, not {case.text!r}")
    subjects = [json.loads(call["function"]["arguments"])["subject"] for call in reply.calls]
    if subjects != ([case.mail_about] if case.mail_about else []):
        raise Wrong(f"the calls are {reply.calls}, not one about {case.mail_about}")
    if reply.finish != ("tool_calls" if case.mail_about else "stop"):
        raise Wrong(f"the finish reason is {reply.finish}")
    results = [event["result"] for event in reply.events if event["type"] == "tool_call.finished"]
    if Counter(results) != Counter(case.results) or len(reply.events) != 2 * len(results):
        raise Wrong(f"the server's calls returned {results}, not {case.results}")


def chat(question: str, *tools: str | Json, **fields: Any) -> Json:
    """Builds a request; a tool given by name only is one of the server's."""
    given = [{"type": "function", "function": {"name": t}} if isinstance(t, str) else t for t in tools]
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        **({"tools": given} if given else {}),
        **fields,
    }


FIXED: Mapping[str, tuple[Json, str]] = {
    "weather": (chat("What is the weather in Oslo and in Paris?", *_SAMPLE_TOOLS), "°C"),
    "database": (chat("List the products", *_SAMPLE_TOOLS), "rows: id 1, name"),
    "malformed": (
        chat("Calculate 7 * 6", "calculate_math", standin={"malformed_arguments": True, "when": "call"}),
        "could not answer: the arguments are not valid JSON",
    ),
    "missing": (
        chat("Calculate 7 * 6", "calculate_math", standin={"missing_arguments": True, "when": "call"}),
        "could not answer: 'expression' is missing",
    ),
}
"""Requests whose undisturbed answers serve as the reference, with a text that those must contain."""


class Mix:
    """Makes random cases; the same seed gives the same cases.

    Args:
        texts: The undisturbed answers to `FIXED`.
    """

    def __init__(self, seed: int, texts: Mapping[str, str]) -> None:
        self._random = random.Random(seed)
        self._texts = texts
        self._makers = list(_WEIGHTS)
        self._weights = list(_WEIGHTS.values())

    def next(self) -> Case:
        (maker,) = self._random.choices(self._makers, self._weights)
        return maker(self)

    # Answers in text

    def _plain(self, kind: str = "plain", stream: bool = False, **fields: Any) -> Case:
        question = f"Tell me of {self._random.randrange(10**9)}"
        text = f"This is a stand-in for the engine, not a language model; it was asked: “{question}”"
        return Case(kind, chat(question, stream=stream, **fields), text)

    def plain_stream(self) -> Case:
        options = self._random.choice([None, {"include_usage": True}])
        return self._plain("plain, streamed", stream=True, stream_options=options)

    def slow(self) -> Case:
        delays = {"delay_first": self._random.uniform(0, 0.5)}
        return self._plain("slow", standin=delays)

    def slow_stream(self) -> Case:
        delays = {"delay_first": 0.15, "delay_token": self._random.uniform(0.005, 0.03)}
        return self._plain("slow, streamed", stream=True, standin=delays)

    # Tools of the server

    def _product(self, kind: str, stream: bool, **fields: Any) -> Case:
        a, b = self._random.randrange(2, 10**5), self._random.randrange(2, 10**5)
        tools = self._random.choice([("calculate_math",), _SAMPLE_TOOLS])
        return Case(
            kind, chat(f"Calculate {a} * {b}", *tools, stream=stream, **fields), f"{a} * {b} = {a * b}."
        )

    def tools(self) -> Case:
        return self._product("tools", stream=False)

    def tools_stream(self) -> Case:
        options = self._random.choice([None, {"include_usage": True}])
        return self._product("tools, streamed", stream=True, stream_options=options)

    def slow_tools_stream(self) -> Case:
        delays = {"delay_token": self._random.uniform(0.002, 0.02)}
        return self._product("slow tools, streamed", stream=True, standin=delays)

    def two_calls_stream(self) -> Case:
        a, b, c, d = (self._random.randrange(2, 10**4) for _ in range(4))
        request = chat(
            f"Calculate {a} * {b} and {c} * {d}", "calculate_math", stream=True, tandem={"events": True}
        )
        results = tuple(json.dumps({"result": n}, separators=(",", ":")) for n in (a * b, c * d))
        text = f"{a} * {b} = {a * b}. {c} * {d} = {c * d}."
        return Case("two calls with events, streamed", request, text, results=results)

    def call_as_text(self) -> Case:
        fault = {"call_as_text": self._random.choice([True, "bare"]), "when": "call"}
        stream = self._random.random() < 0.7
        return self._product("call written as text", stream=stream, standin=fault)

    def double_encoded(self) -> Case:
        fault = {"double_encoded_arguments": True, "when": "call"}
        return self._product("double-encoded arguments", stream=False, standin=fault)

    def fixed(self) -> Case:
        name = self._random.choice(list(FIXED))
        request = {**FIXED[name][0], "stream": self._random.random() < 0.5}
        return Case(f"{name}{', streamed' * request['stream']}", request, self._texts[name])

    def pause(self) -> Case:
        name, verb = self._random.choice([("pause_awaited", "Paused"), ("pause_blocking", "Blocked")])
        seconds = self._random.choice([0.05, 0.25])
        request = chat(
            f"Wait {seconds} seconds",
            name,
            stream=self._random.random() < 0.5,
            tool_choice={"type": "function", "function": {"name": name}},
        )
        return Case("slow tool", request, f"{verb} for {seconds:g} seconds.")

    # Tools of the client

    def client_tools(self) -> Case:
        subject = f"parcel {self._random.randrange(10**6)}"
        request = chat(f"Send a mail about {subject}", _MAIL, stream=self._random.random() < 0.5)
        return Case("client's tool", request, mail_about=subject)

    def mixed_tools(self) -> Case:
        subject = f"parcel {self._random.randrange(10**6)}"
        question = f"Calculate 3 * 17 and send a mail about {subject}"
        request = chat(question, "calculate_math", _MAIL, stream=self._random.random() < 0.5)
        return Case("client's and server's tools", request, mail_about=subject)

    # Failures

    def refused(self) -> Case:
        status, error = self._random.choice([(400, REFUSED), (500, FAILED), (503, UNAVAILABLE)])
        maker = self._random.choice([self._plain, self._product])
        stream = self._random.random() < 0.5
        return replace(maker("engine error", stream=stream, standin={"status": status}), error=error)

    def cut_before(self) -> Case:
        case = self._plain("cut before the answer", self._random.random() < 0.5, standin={"cut_after": 0})
        return replace(case, error=FAILED)

    def broken(self) -> Case:
        fault = self._random.choice(["cut_after", "error_event_after"])
        when = self._random.choice(["always", "answer"])
        maker = self._random.choice([self._plain, self._product])
        stream = self._random.random() < 0.7
        case = maker(
            f"cut off{', streamed' * stream}",
            stream=stream,
            standin={fault: self._random.randrange(1, 8), "when": when},
        )
        return replace(case, error=FAILED)

    def invalid(self) -> Case:
        return replace(self._product("rejected by us", stream=False, n=2), error=INVALID)

    # Clients that disconnect

    def leaves(self) -> Case:
        """Each request would take minutes if the disconnect did not reach the engine and the tool."""
        kind, case, leave = self._random.choice(
            [
                ("in the body", self._plain(), Leave(sent=self._random.uniform(0, 0.99))),
                ("while waiting", self._plain(standin=_NEVER_BEGINS), self._soon()),
                ("before a stream", self._plain(stream=True, standin=_NEVER_BEGINS), self._soon()),
                ("in a stream", self._plain(stream=True, standin=_NEVER_ENDS), self._early()),
                (
                    "in a stream with tools",
                    self._product("", stream=True, standin=_NEVER_ENDS),
                    self._early(),
                ),
                ("during a tool", self._endless_tool(), Leave(saw=b"tool_call.started")),
            ]
        )
        leave = replace(leave, reset=self._random.random() < 0.5)
        return replace(case, kind=f"disconnects {kind}", text=f" {case.text}" * 20, leave=leave)

    def _soon(self) -> Leave:
        return Leave(seconds=self._random.uniform(0, 0.4))

    def _early(self) -> Leave:
        return Leave(pieces=self._random.randrange(1, 12))

    def _endless_tool(self) -> Case:
        forced = {"type": "function", "function": {"name": "pause_awaited"}}
        request = chat(
            "Wait 60 seconds", "pause_awaited", stream=True, tool_choice=forced, tandem={"events": True}
        )
        return Case("", request)


_NEVER_BEGINS = {"delay_first": 600}
_NEVER_ENDS = {"delay_token": 0.02, "chunks": 5000, "when": "answer"}
_WEIGHTS: dict[Callable[[Mix], Case], float] = {
    Mix._plain: 10,
    Mix.plain_stream: 11,
    Mix.slow: 3,
    Mix.slow_stream: 5,
    Mix.tools: 8,
    Mix.tools_stream: 22,
    Mix.slow_tools_stream: 4,
    Mix.two_calls_stream: 6,
    Mix.call_as_text: 3,
    Mix.double_encoded: 1,
    Mix.fixed: 6,
    Mix.pause: 2,
    Mix.client_tools: 3,
    Mix.mixed_tools: 3,
    Mix.refused: 3,
    Mix.cut_before: 1,
    Mix.broken: 4,
    Mix.invalid: 1,
    Mix.leaves: 8,
}
"""Weights of the kinds; a third of the requests stream with tools."""
