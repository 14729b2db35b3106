"""Turns a server's definitions of tools into ours, and its results into those of a tool. Without I/O.

A server may send anything: what is not usable is left out, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson

from ...errors import ToolError
from ..context import ToolContext
from ..remote import RemoteResult, RemoteTool
from .wire import JsonObject, header_value

Run = Callable[[str, JsonObject, Mapping[str, str], ToolContext], Awaitable[JsonObject]]
"""Calls a tool by its name on the server, with header lines that its arguments require."""

_NAME_AT_MOST = 64
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")
_DESCRIPTION_CHARACTERS = 8192
_SCHEMA_BYTES = 65_536
_IMAGES = 8
_IMAGE_BYTES = 4_194_304
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HEADER_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def define(
    server: str, found: Iterable[Any], *, allowed: frozenset[str] | None, run: Run, takes_images: bool
) -> tuple[list[RemoteTool], list[str]]:
    """Returns the usable tools, and why others are left out.

    Args:
        allowed: the names of the tools to use, by their names on the server. Default: all.
        takes_images: whether the model accepts images.
    """
    tools: dict[str, RemoteTool] = {}
    problems: list[str] = []
    offered = set()
    for definition in found:
        name = definition.get("name") if isinstance(definition, dict) else None
        if not isinstance(name, str) or not name:
            problems.append("a tool has no name")
            continue
        offered.add(name)
        if allowed is not None and name not in allowed:
            continue
        problem = _problem(server, definition, tools)
        if problem:
            problems.append(problem)
            continue
        tool = _tool(server, definition, run, takes_images)
        tools[tool.name] = tool
    if missing := sorted((allowed or frozenset()) - offered):
        problems.append(f"the server has no tool {', '.join(missing)}")
    return list(tools.values()), problems


def full_name(server: str, name: str) -> str:
    """Returns the name that models see. OpenAI's API allows letters, digits, `_` and `-`."""
    return f"{server}__{_OTHER.sub('_', name)}"


def _problem(server: str, definition: JsonObject, tools: Mapping[str, RemoteTool]) -> str | None:
    """Returns why a tool cannot be used, None if it can."""
    name = definition["name"]
    shown, full = name[:80], full_name(server, name)
    if len(full) > _NAME_AT_MOST:
        return f"the name {full[:80]} has {len(full)} characters, of which models accept {_NAME_AT_MOST}"
    if full in tools:
        return f"{shown} and {tools[full].remote_name} would both be named {full}"
    return _problem_of_schema(shown, definition.get("inputSchema"))


def _problem_of_schema(shown: str, schema: Any) -> str | None:
    if not isinstance(schema, dict):
        return f"{shown} has no schema of its arguments"
    if schema.get("type", "object") != "object":
        return f"the arguments of {shown} are not an object"
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError:
        return f"the schema of {shown} is nested too deeply"
    if size > _SCHEMA_BYTES:
        return f"the schema of {shown} has {size:,} bytes; at most {_SCHEMA_BYTES:,} are accepted"
    return None


def _tool(server: str, definition: JsonObject, run: Run, takes_images: bool) -> RemoteTool:
    name: str = definition["name"]
    full = full_name(server, name)
    schema = {"type": "object", "properties": {}} | definition["inputSchema"]
    description, annotations = definition.get("description"), definition.get("annotations")
    mirrored = _mirrored(schema)

    async def call(arguments: JsonObject, context: ToolContext) -> RemoteResult:
        return result_of_call(
            full, await run(name, arguments, _param_headers(mirrored, arguments), context), takes_images
        )

    return RemoteTool(
        name=full,
        server=server,
        remote_name=name,
        description=description[:_DESCRIPTION_CHARACTERS] if isinstance(description, str) else "",
        parameters=schema,
        run=call,
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def _mirrored(schema: JsonObject) -> dict[str, str]:
    """Returns the arguments that the server wants in headers as well (`x-mcp-header`), and these headers."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    wanted = {
        name: its["x-mcp-header"]
        for name, its in properties.items()
        if isinstance(its, dict) and isinstance(its.get("x-mcp-header"), str)
    }
    return {name: f"Mcp-Param-{token}" for name, token in wanted.items() if _HEADER_TOKEN.fullmatch(token)}


def _param_headers(mirrored: Mapping[str, str], arguments: JsonObject) -> dict[str, str]:
    found = {}
    for name, header in mirrored.items():
        value = arguments.get(name)
        if isinstance(value, bool):
            found[header] = "true" if value else "false"
        elif isinstance(value, str | int):
            found[header] = header_value(str(value))
    return found


def result_of_call(name: str, result: JsonObject, takes_images: bool) -> RemoteResult:
    """Returns what the model gets of a result: structured content, else text; images; notes on the rest.

    Raises:
        ToolError: it is not a result, or asks for input.
    """
    if result.get("resultType") == "input_required":
        raise ToolError(
            f"{name} asks the user for input, which cannot be passed on: give it in the arguments"
        )
    content = result.get("content")
    structured = result.get("structuredContent")
    failed = result.get("isError") is True
    if not isinstance(content, list):
        if content is not None or structured is None:
            raise ToolError(f"{name} answered in a form that is not understood: it has no list of content")
        content = []
    reader = _ContentReader(takes_images)
    for block in content:
        reader.read(block)
    if structured is None or failed:
        value: Any = "\n".join(reader.texts + reader.notes)
    elif reader.notes:
        value = {"result": structured, "notes": reader.notes}
    else:
        value = structured
    return RemoteResult(value, failed, tuple(reader.images))


class _ContentReader:
    """Collects the texts and images of a result, and notes on what the model does not get."""

    def __init__(self, takes_images: bool) -> None:
        self._takes_images = takes_images
        self._image_bytes = 0
        self.texts: list[str] = []
        self.notes: list[str] = []
        self.images: list[JsonObject] = []

    def read(self, block: Any) -> None:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and isinstance(block.get("text"), str):
            self.texts.append(block["text"])
        elif kind == "image":
            self._read_image(block)
        elif kind == "resource" and isinstance(block.get("resource"), dict):
            self._read_resource(block["resource"])
        elif kind == "resource_link":
            self.texts.append(f"{_short(block.get('name'))}: {_short(block.get('uri'))}")
        else:
            self.notes.append(f"[content of type {_short(kind)} is left out]")

    def _read_resource(self, resource: JsonObject) -> None:
        if isinstance(resource.get("text"), str):
            self.texts.append(resource["text"])
        else:
            self.notes.append(f"[the resource {_short(resource.get('uri'))} is left out: it is not text]")

    def _read_image(self, block: JsonObject) -> None:
        kind, data = block.get("mimeType"), block.get("data")
        if not isinstance(data, str) or not isinstance(kind, str) or not _BASE64.fullmatch(data):
            self.notes.append("[an image is left out: it has no type, or its data is not base64]")
        elif not self._takes_images:
            self.notes.append(f"[an image of type {_short(kind)} is left out: the model takes no images]")
        elif kind not in _IMAGE_TYPES:
            self.notes.append(f"[an image is left out: its type is {_short(kind)}]")
        elif len(self.images) == _IMAGES or self._image_bytes + len(data) > _IMAGE_BYTES:
            self.notes.append(
                f"[an image is left out: {_IMAGES} images, or {_IMAGE_BYTES:,} bytes, are accepted]"
            )
        else:
            self._image_bytes += len(data)
            self.images.append({"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}})
            self.notes.append(f"[image {len(self.images)} follows]")


def _short(value: Any) -> str:
    return str(value)[:200]
