"""One turn of the simulated model: the text or calls it generates, as tokens with a stream delta for each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from .answer import Result, compose
from .choose import Call, choose_calls, fill_schema, force_calls
from .faults import NO_FAULT, Fault
from .requests import ChatRequest, JsonObject
from .tokens import content_text, tokenize


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the delta that is streamed for it, or None where nothing is streamed (a call's markup)."""

    text: str
    delta: JsonObject | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn before any limits are applied."""

    tokens: list[Token]
    message: JsonObject
    """`content`, and `tool_calls` if there are any."""
    finish_reason: str
    calls: bool
    """Whether the turn calls tools."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A turn after the limits of its request were applied."""

    tokens: list[Token]
    message: JsonObject
    finish_reason: str
    stop_reason: str | None
    count: int
    """Number of tokens generated, including the end-of-sequence token if it was reached."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The calls to make, or the text to answer with if there are none."""

    calls: list[Call]
    text: str


def decide(request: ChatRequest, *, exclude_tools_when_none: bool) -> Decision:
    """Decides what to do next: call tools, answer from their results, or say that this is not a model."""
    question, results = _question_and_results(request.messages)
    tools = request.tools
    if request.tool_choice == "none" and exclude_tools_when_none:
        tools = []
    if tools and request.forced:
        return Decision(_limited(force_calls(question, tools, request.named_tool), request), "")
    if results:
        return Decision([], _in_format(request.response_format, compose(results, question)))
    calls = _limited(choose_calls(question, tools), request) if tools else []
    return Decision(calls, "" if calls else _without_tools(request.response_format, question))


def make_turn(decision: Decision, request: ChatRequest) -> Turn:
    """Builds the turn for a decision, with the faults that the request asks for."""
    fault = request.sampling.fault
    if not fault.applies(calls=bool(decision.calls)):
        fault = NO_FAULT
    if not decision.calls:
        return _text_turn(_stretched(decision.text, fault.chunks))
    if request.tool_choice == "none":
        return _text_turn(tokenize(_markup(decision.calls, fault)))
    if fault.empty_tool_calls:
        text = _as_text(decision.calls, fault) if fault.call_as_text else ""
        turn = _text_turn(tokenize(text))
        message: JsonObject = {"content": text} if text else {"content": None, "tool_calls": []}
        return Turn(turn.tokens if text else [], message, "tool_calls", calls=True)
    if fault.call_as_text:
        return _text_turn(tokenize(_as_text(decision.calls, fault)))
    return _call_turn(decision.calls, request, fault)


def limit(turn: Turn, max_tokens: int, stop: Sequence[str]) -> Generated:
    """Cuts a turn at the token limit or at a stop string, whichever comes first."""
    tokens = turn.tokens[:max_tokens]
    ended = len(turn.tokens) < max_tokens
    if stop and not turn.calls and (cut := _cut_at_stop(tokens, stop)):
        kept, count, string = cut
        text = "".join(token.text for token in kept)
        return Generated(kept, {"content": text}, "stop", string, count)
    if ended:
        return Generated(tokens, turn.message, turn.finish_reason, None, len(tokens) + 1)
    text = "".join(token.text for token in tokens)
    return Generated(tokens, {"content": text}, "length", None, len(tokens))


def _question_and_results(messages: Sequence[JsonObject]) -> tuple[str, list[Result]]:
    """Returns the user's last message and the tool results that follow it."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    question = content_text(messages[last].get("content"))
    calls: dict[str, JsonObject] = {}
    results = []
    for message in messages[last + 1 :]:
        for call in message.get("tool_calls") or ():
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                calls[str(call.get("id"))] = call["function"]
        if message["role"] == "tool":
            function = calls.get(str(message.get("tool_call_id")), {})
            name = function.get("name") or message.get("name") or "tool"
            results.append(Result(str(name), _arguments(function), content_text(message.get("content"))))
    return question, results


def _arguments(function: JsonObject) -> JsonObject:
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return {}
    return arguments if isinstance(arguments, dict) else {}


def _limited(calls: list[Call], request: ChatRequest) -> list[Call]:
    return calls if request.parallel_tool_calls else calls[:1]


def _without_tools(response_format: JsonObject | None, question: str) -> str:
    asked = question.strip()[:500]
    sentence = f"This is a stand-in for the engine, not a language model; it was asked: “{asked}”"
    return _in_format(response_format, sentence, question)


def _in_format(response_format: JsonObject | None, answer: str, source: str | None = None) -> str:
    """Returns the answer in the requested format. The values of a schema are found in `source`."""
    wanted = response_format or {}
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": answer}, ensure_ascii=False)
    if wanted.get("type") == "json_schema" and isinstance(wanted.get("json_schema"), dict):
        schema = wanted["json_schema"].get("schema") or {}
        return json.dumps(fill_schema(schema, answer if source is None else source), ensure_ascii=False)
    return answer


def _stretched(text: str, chunks: int | None) -> list[str]:
    """Returns the tokens of the text; with `chunks`, repeats its words to reach that many tokens."""
    if chunks is None:
        return tokenize(text)
    words = tokenize(" " + text)
    return (words * (chunks // len(words) + 1))[:chunks]


def _text_turn(texts: list[str]) -> Turn:
    tokens = [Token(text, {"content": text}) for text in texts]
    return Turn(tokens, {"content": "".join(texts)}, "stop", calls=False)


def _call_turn(calls: list[Call], request: ChatRequest, fault: Fault) -> Turn:
    tokens: list[Token] = []
    made: list[JsonObject] = []
    for index, call in enumerate(calls):
        arguments = _arguments_text(call, fault)
        identity = f"chatcmpl-tool-{os.urandom(8).hex()}"
        function = {"name": call.name} | ({"arguments": arguments} if arguments is not None else {})
        made.append({"id": identity, "type": "function", "function": function})
        tokens += _call_tokens(index, call.name, arguments, identity)
    content = "" if request.forced else None
    finish_reason = "stop" if request.named_tool else "tool_calls"
    return Turn(tokens, {"content": content, "tool_calls": made}, finish_reason, calls=True)


def _call_tokens(index: int, name: str, arguments: str | None, identity: str) -> list[Token]:
    """Returns the tokens of one call in Hermes markup, which is what vLLM's stream parser sees."""
    head, tail = _markup_ends(name, arguments)
    tokens = [Token(text, None) for text in tokenize(("\n" if index else "") + head)]
    begun = {"id": identity, "type": "function", "index": index, "function": {"name": name}}
    tokens[-1] = Token(tokens[-1].text, {"content": None, "tool_calls": [begun]})
    for text in tokenize(arguments or ""):
        piece = {"index": index, "function": {"arguments": text}}
        tokens.append(Token(text, {"content": None, "tool_calls": [piece]}))
    return tokens + [Token(text, None) for text in tokenize(tail)]


def _markup_ends(name: str, arguments: str | None) -> tuple[str, str]:
    head = f'<tool_call>\n{{"name": {json.dumps(name)}'
    return head + (', "arguments": ' if arguments is not None else ""), "}\n</tool_call>"


def _markup(calls: Sequence[Call], fault: Fault) -> str:
    texts = []
    for call in calls:
        arguments = _arguments_text(call, fault)
        texts.append((arguments or "").join(_markup_ends(call.name, arguments)))
    return "\n".join(texts)


def _as_text(calls: Sequence[Call], fault: Fault) -> str:
    if fault.call_as_text != "bare":
        return _markup(calls, fault)
    texts = []
    for call in calls:
        arguments = _arguments_text(call, fault)
        rest = "" if arguments is None else f', "arguments": {arguments}'
        texts.append(f'{{"tool": {json.dumps(call.name)}{rest}}}')
    return "\n".join(texts)


def _arguments_text(call: Call, fault: Fault) -> str | None:
    if fault.missing_arguments:
        return None
    arguments = call.arguments
    if fault.malformed_arguments:
        arguments = arguments[:-1] + ","
    return json.dumps(arguments, ensure_ascii=False) if fault.double_encoded_arguments else arguments


def _cut_at_stop(tokens: Sequence[Token], stop: Sequence[str]) -> tuple[list[Token], int, str] | None:
    text = "".join(token.text for token in tokens)
    found = [(at, string) for string in stop if (at := text.find(string)) >= 0]
    if not found:
        return None
    end, string = min(found)
    kept: list[Token] = []
    length = count = 0
    for token in tokens:
        if length >= end + len(string):
            break
        count += 1
        if visible := token.text[: max(0, end - length)]:
            kept.append(Token(visible, {"content": visible}))
        length += len(token.text)
    return kept, count, string
