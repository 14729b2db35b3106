"""How models write calls in text: one entry per tool-call parser of vLLM that `models.yaml` uses.

Sources: `vllm/tool_parsers/*.py` of vLLM 0.32; for `openai` also https://github.com/openai/harmony,
docs/format.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from ..protocol import JsonObject, dumps, loads
from .gemma import GemmaSyntaxError, parse_object

WrittenCall = tuple[str, str]
"""The name of a call and its arguments, as the model wrote them."""

Parameters = Callable[[str], JsonObject]
"""The JSON schema of a tool's arguments, by its name; empty if there is none."""

MAX_HEAD = 256
_NAME = r"[^\s<>{}\[\]\"'`]{1,128}"
_BARE_KEYS = ("tool", "name", "arguments", "parameters")
_QUOTED_KEYS = ('"tool"', '"name"', '"arguments"', '"parameters"', '"type"')
_WRITTEN_NAME = re.compile(r'"(?:name|tool)"\s*:\s*"([^"\\]{1,128})"')
_CUT_NAME = re.compile(r'"(?:name|tool)"\s*:\s*"([^"\\]{0,128})\Z')
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:')


@dataclass(frozen=True, slots=True)
class Markup:
    """One way of writing a call: an opening, a body, and perhaps a closing.

    Attributes:
        openings: the texts with which a call starts.
        head: the pattern of the text before the body.
        partial: the pattern of text that may still become a head.
        body: `json` ends with its last bracket, `tagged` with the closing.
        closing: the text after the body, "" if there is none.
        between: characters other than white space that separate two calls.
        bare: whether a JSON object that is the whole text is a call.
        read: returns the calls in a whole text from opening to closing, or None.
        formats: the alternatives, if this stands for several formats.
        opening, firsts: the pattern of an opening, and the first characters of all openings.
    """

    openings: tuple[str, ...]
    head: re.Pattern[str]
    partial: re.Pattern[str]
    body: Literal["json", "tagged"]
    closing: str
    read: Callable[[str, Parameters], list[WrittenCall] | None]
    between: str = ""
    bare: bool = False
    formats: tuple[Markup, ...] = ()
    opening: re.Pattern[str] = field(init=False)
    firsts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        pattern = re.compile("|".join(map(re.escape, self.openings)) or r"(?!)")
        object.__setattr__(self, "opening", pattern)
        object.__setattr__(self, "firsts", tuple(sorted({opening[0] for opening in self.openings})))


def _beginnings(text: str) -> str:
    """Returns a pattern that matches every prefix of `text`, including the empty one."""
    pattern = ""
    for character in reversed(text):
        pattern = f"(?:{re.escape(character)}{pattern})?"
    return pattern


def _read_json(text: str, _: Parameters) -> list[WrittenCall] | None:
    return _calls_in(text[text.find("{") : text.rfind("}") + 1], text)


def _read_mistral(text: str, _: Parameters) -> list[WrittenCall] | None:
    head = _MISTRAL_HEAD.match(text)
    body = text[head.end() :] if head else ""
    if head and head["name"]:
        return [(head["name"], body)]
    return _calls_in(body, body)


def _read_harmony(text: str, _: Parameters) -> list[WrittenCall] | None:
    head = _HARMONY_HEAD.match(text)
    return [(head["name"], text[head.end() :].removesuffix("<|call|>").strip())] if head else None


def _read_gemma(text: str, _: Parameters) -> list[WrittenCall] | None:
    head = _GEMMA_HEAD.match(text)
    if not head:
        return None
    body = text[head.end() - 1 :].removesuffix("<tool_call|>").strip()
    try:
        return [(head["name"], dumps(parse_object(body)).decode())]
    except GemmaSyntaxError:
        return [(head["name"], body)]


def _read_xml(text: str, parameters: Parameters) -> list[WrittenCall] | None:
    """Reads values as text, or as JSON if the parameter is not a string."""
    head = _XML_HEAD.match(text)
    if not head:
        return None
    properties = parameters(head["name"]).get("properties") or {}
    arguments = {}
    for part in text[head.end() :].split("<parameter=")[1:]:
        name, _, value = part.partition(">")
        value = value.partition("</parameter>")[0].removeprefix("\n").removesuffix("\n")
        arguments[name] = value if _is_text(properties.get(name)) else _json_or_text(value)
    return [(head["name"], dumps(arguments).decode())]


def _is_text(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "string"


def _json_or_text(value: str) -> Any:
    parsed = _loads(value)
    return value if parsed is None and value.strip() != "null" else parsed


def read_bare(text: str, _: Parameters) -> list[WrittenCall] | None:
    """Reads calls that make up the whole text, as written by models that learn the format from a prompt."""
    calls = []
    for part in _split_objects(text):
        value = _loads(part)
        arguments = value.get("arguments", value.get("parameters")) if isinstance(value, dict) else None
        if not isinstance(arguments, dict) or not set(value) <= {*_BARE_KEYS, "type"}:
            return None
        calls += _calls_of([value]) or []
    return calls or None


def cut_name(text: str) -> str | None:
    """Returns the start of the name in a truncated call, or None if the text ends before the name."""
    name = _WRITTEN_NAME.search(text) or _CUT_NAME.search(text)
    return name[1] if name else None


def _split_objects(text: str) -> list[str]:
    """Splits objects at the semicolons between them."""
    return re.split(r"(?<=\})\s*;\s*(?=\{)", text.strip())


def _calls_in(body: str, text: str) -> list[WrittenCall] | None:
    """Reads a call or a list of them from JSON; if it is invalid, one whose name is readable in `text`."""
    value = _loads(body)
    if value is None:
        broken = _broken_call(text)
        return [broken] if broken else None
    return _calls_of(value if isinstance(value, list) else [value])


def _calls_of(values: list[Any]) -> list[WrittenCall] | None:
    calls = []
    for value in values:
        name = value.get("name", value.get("tool")) if isinstance(value, dict) else None
        if not isinstance(name, str):
            return None
        arguments = value.get("arguments", value.get("parameters"))
        text = arguments if isinstance(arguments, str) else dumps(arguments or {}).decode()
        calls.append((name, text))
    return calls


def _broken_call(text: str) -> WrittenCall | None:
    """Reads a call with invalid JSON whose name is readable, so that the model gets an error."""
    name = _WRITTEN_NAME.search(text)
    if not name:
        return None
    found = _ARGUMENTS.search(text)
    arguments = text[found.end() :].partition("</tool_call>")[0].strip() if found else text
    return name[1], arguments.removesuffix("}").strip()


def _loads(text: str) -> Any:
    try:
        return loads(text.encode())
    except orjson.JSONDecodeError:
        return None


_XML_HEAD = re.compile(rf"(?:<tool_call>\s*)?<function=(?P<name>{_NAME})>")
_MISTRAL_HEAD = re.compile(
    rf"\[TOOL_CALLS\]\s*(?:(?P<name>{_NAME})(?:\[CALL_ID\][^\s\[\]{{]{{0,64}})?(?:\[ARGS\])?\s*(?=\{{)|(?=[\[{{]))"
)
_HARMONY_HEAD = re.compile(
    r"(?:<\|start\|>assistant)?\s*(?:<\|channel\|>(?:commentary|analysis))?\s*to=functions\."
    rf"(?P<name>{_NAME})[^{{}}\[\]]{{0,100}}?<\|message\|>\s*(?=\{{)"
)
_GEMMA_HEAD = re.compile(rf"<\|tool_call>\s*call:(?P<name>{_NAME})\{{")

HERMES = Markup(
    openings=("<tool_call>",),
    head=re.compile(r"<tool_call>\s*(?=\{)"),
    partial=re.compile(r"<tool_call>\s*"),
    body="json",
    closing="</tool_call>",
    read=_read_json,
)
_QWEN3_CODER = Markup(
    openings=("<tool_call>", "<function="),
    head=_XML_HEAD,
    partial=re.compile(rf"(?:<tool_call>\s*)?{_beginnings('<function=')}(?:(?<=<function=){_NAME})?"),
    body="tagged",
    closing="</function>",
    read=_read_xml,
)
_LLAMA3_JSON = Markup(
    openings=("<|python_tag|>",),
    head=re.compile(r"<\|python_tag\|>\s*(?=\{)"),
    partial=re.compile(r"<\|python_tag\|>\s*"),
    body="json",
    closing="",
    between=";",
    bare=True,
    read=_read_json,
)
_MISTRAL = Markup(
    openings=("[TOOL_CALLS]",),
    head=_MISTRAL_HEAD,
    partial=re.compile(rf"\[TOOL_CALLS\]\s*(?:{_NAME}(?:\[[A-Z_]*(?:\][^\s\[\]{{]{{0,64}})?){{0,2}}\s*)?"),
    body="json",
    closing="",
    read=_read_mistral,
)
_OPENAI = Markup(
    openings=("<|start|>", "<|channel|>"),
    head=_HARMONY_HEAD,
    partial=re.compile(
        rf"(?:<\|start\|>{_beginnings('assistant')})?\s*"
        rf"(?:{_beginnings('<|channel|>commentary')}|{_beginnings('<|channel|>analysis')})\s*"
        rf"(?:{_beginnings('to=functions.')}|to=functions\.[^{{}}\[\]]{{0,230}}(?:<\|message\|>\s*)?)"
    ),
    body="json",
    closing="<|call|>",
    read=_read_harmony,
)
_GEMMA4 = Markup(
    openings=("<|tool_call>",),
    head=_GEMMA_HEAD,
    partial=re.compile(rf"<\|tool_call>\s*{_beginnings('call:')}(?:(?<=call:){_NAME})?"),
    body="tagged",
    closing="<tool_call|>",
    read=_read_gemma,
)
BARE = Markup(
    openings=(),
    head=re.compile(rf"\s*(?=\{{\s*(?:{'|'.join(_QUOTED_KEYS)})\s*:)"),
    partial=re.compile(rf"\s*(?:\{{\s*(?:{'|'.join(map(_beginnings, _QUOTED_KEYS))})\s*)?"),
    body="json",
    closing="",
    between=";",
    bare=True,
    read=read_bare,
)

MARKUPS: dict[str, Markup] = {
    "hermes": HERMES,
    "qwen3_coder": _QWEN3_CODER,
    "llama3_json": _LLAMA3_JSON,
    "mistral": _MISTRAL,
    "openai": _OPENAI,
    "gemma4": _GEMMA4,
}
"""The markups by the name of vLLM's parser."""

_ANY = Markup(
    openings=tuple(dict.fromkeys(opening for markup in MARKUPS.values() for opening in markup.openings)),
    head=re.compile("(?!)"),
    partial=re.compile("(?!)"),
    body="json",
    closing="",
    read=_read_json,
    formats=tuple(MARKUPS.values()),
)
"""All of them, for an unknown parser."""


@dataclass(frozen=True, slots=True)
class Rescue:
    """How to handle calls that the engine left in the text.

    Attributes:
        markup: the format of the calls.
        bare: whether a JSON object that is the whole text is a call.
        runs: whether calls at the end of a turn are run. If not, they are hidden from the client.
    """

    markup: Markup
    bare: bool
    runs: bool


def rescue_for(parser: str | None, setting: Literal["never", "end_of_turn"] | None) -> Rescue:
    """Returns how to handle calls in text.

    Args:
        parser: the engine's tool-call parser, `none` if it has none, None if unknown.
        setting: None for the default, which leaves calls to a parser that is known to work.
    """
    markup = MARKUPS.get(parser or "", _ANY)
    by_default = parser in (None, "none")
    bare = by_default or markup.bare
    return Rescue(markup, bare=bare, runs=setting == "end_of_turn" or (setting is None and by_default))
