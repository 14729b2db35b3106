"""Decides which side runs each tool of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from ..errors import InvalidRequest
from ..protocol import JsonObject
from ..tools.toolbox import Toolbox
from .tool_choice import function_name

_SIDES = ("client", "server")
_MAX_HINTS = 4
_MAX_NAME = 64
_CLOSE = 0.9
"""The least similarity that suggests a misspelling, if the client describes its tool."""

_EXAMPLE = (
    "client, server, or a side for single tools, such as get_current_weather=client, calculate_math=server"
)


@dataclass(frozen=True, slots=True)
class Execution:
    """What the header `X-Tool-Execution` demands.

    Attributes:
        default: the side that runs all other tools, None to decide by the tools.
        by_name: the side that runs a tool.
    """

    default: str | None = None
    by_name: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_client(self) -> bool:
        """Whether the client runs every tool."""
        return self.default == "client" and "server" not in self.by_name.values()

    def side(self, name: str) -> str | None:
        return self.by_name.get(name, self.default)


_BY_TOOLS = Execution()


def parse_execution(header: str | None) -> Execution:
    """Parses the header `X-Tool-Execution`.

    Raises:
        InvalidRequest: the header is invalid.
    """
    if header is None:
        return _BY_TOOLS
    default = None
    by_name: dict[str, str] = {}
    for entry in header.split(","):
        name, separator, side = (part.strip() for part in entry.rpartition("="))
        if side not in _SIDES or bool(name) is not bool(separator) or (not name and default):
            raise InvalidRequest(
                f"The header X-Tool-Execution must be {_EXAMPLE}; it is {header[:80]!r}",
                param="x-tool-execution",
            )
        if name:
            by_name[name] = side
        else:
            default = side
    return Execution(default, by_name)


def sides_of(
    tools: Sequence[Any], toolbox: Toolbox, execution: Execution
) -> tuple[frozenset[str], frozenset[str], list[str]]:
    """Returns the names of the tools that each side runs (server, client), and hints.

    The server runs the tools that it has. One with other parameters than the server's is the client's.

    Raises:
        InvalidRequest: the header assigns a tool to the server that it does not have.
    """
    server: set[str] = set()
    client: set[str] = set()
    hints: list[str] = []
    for tool in tools:
        name = function_name(tool)
        if name is None:
            continue
        side = execution.side(name)
        if name not in toolbox.names:
            if execution.by_name.get(name) == "server":
                raise InvalidRequest(
                    f"X-Tool-Execution assigns {name!r} to the server, which has no such tool; "
                    "GET /v1/tools lists the tools that it has",
                    param="x-tool-execution",
                )
            described = tool["function"].get("parameters") is not None
            hint = None if side else _misspelling(name, toolbox.names, described=described)
        elif side is None and _differs(tool["function"].get("parameters"), toolbox, name):
            side = "client"
            hint = (
                f"{name} is run by you, since its parameters differ from those of the server's tool; "
                f"to let the server run it, send X-Tool-Execution: {name}=server"
            )
        else:
            side, hint = side or "server", None
        (server if side == "server" and name in toolbox.names else client).add(name)
        if hint and len(hints) < _MAX_HINTS:
            hints.append(hint)
    return frozenset(server), frozenset(client - server), hints


def misspellings(tools: Iterable[tuple[str, bool]], toolbox: Toolbox) -> list[str]:
    """Returns hints for a request that names no tool of the server.

    Args:
        tools: the names of its tools, and whether the client describes their parameters.
    """
    found = (_misspelling(name, toolbox.names, described=described) for name, described in tools)
    return list(islice(filter(None, found), _MAX_HINTS))


def _misspelling(name: str, names: frozenset[str], *, described: bool) -> str | None:
    """Returns a hint if a tool of the client probably was to be one of the server's."""
    if len(name) > _MAX_NAME:
        return None
    nearest = _nearest(name, names, _CLOSE if described else 0.6)
    if nearest is None and described:
        return None
    advice = f"did you mean {nearest}?" if nearest else "GET /v1/tools lists the tools that it has"
    return f"{name!a} is not a tool of this server, so that its calls are returned to you: {advice}"


@lru_cache(maxsize=1024)
def _nearest(name: str, names: frozenset[str], least: float) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, names, n=1, cutoff=least)
    return found[0] if found else None


def _differs(given: Any, toolbox: Toolbox, name: str) -> bool:
    """Returns whether calls that match the client's schema cannot be meant for the server's tool."""
    properties = given.get("properties") if isinstance(given, dict) else None
    if not isinstance(properties, dict):
        return False
    known = toolbox.complete({"type": "function", "function": {"name": name}})["function"]["parameters"]
    if given == known:
        return False
    ours = known.get("properties") or {}
    needed = known.get("required") or ()
    if not properties.keys() <= ours.keys() or not set(needed) <= properties.keys():
        return True
    return any(_contradict(properties[each], ours[each]) for each in properties)


def _contradict(given: Any, known: Any) -> bool:
    """Returns whether no value matches both schemas of a parameter."""
    if not isinstance(given, dict) or not isinstance(known, dict):
        return False
    one, other = _types(given), _types(known)
    if one and other and not one & other:
        return True
    values, ours = given.get("enum"), known.get("enum")
    if isinstance(values, list) and isinstance(ours, list):
        return not any(value in ours for value in values)
    return False


def _types(schema: JsonObject) -> set[str]:
    """Returns the types that a schema accepts, none if it does not say so at its top."""
    given = schema.get("type")
    types = {given} if isinstance(given, str) else set()
    if isinstance(given, list):
        types = {each for each in given if isinstance(each, str)}
    if not types and isinstance(choices := schema.get("anyOf"), list):
        parts = [_types(each) if isinstance(each, dict) else set() for each in choices]
        types = set().union(*parts) if all(parts) else set()
    return types | {"number"} if "integer" in types else types
