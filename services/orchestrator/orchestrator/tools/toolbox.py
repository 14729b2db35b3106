"""The tools that the server runs, and a way to call them that never raises."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ToolError
from .arguments import Arguments
from .context import ToolContext
from .loading import define_tools, load_tools
from .remote import RemoteResult, RemoteTool
from .results import render, render_error
from .running import CallCancelled, CallFailed, CallTimeout, Runner
from .schema import InvalidArguments, Tool, quick, where_defined
from .threads import NoFreeThread

__all__ = [
    "Arguments", "Outcome", "RemoteResult", "RemoteTool", "ToolContext", "ToolResult", "Toolbox",
    "load_tools", "quick",
]  # fmt: skip

Outcome = Literal["ok", "error", "timeout", "invalid_arguments", "busy"]

BROUGHT = "(of a request)"

log = logging.getLogger("orchestrator.tools")


@dataclass(slots=True)
class ToolResult:
    """The result of one call.

    Attributes:
        content: the text of the tool's message: the result, or `{"error": "..."}` for the model to read.
        outcome: whether the call succeeded, else why it failed.
        arguments: the arguments as canonical JSON for the history, `{}` if the model wrote no JSON object.
        parsed: the arguments as a dict, None if the model wrote no JSON object.
        seconds: duration of the call.
        images: the result's images as parts of a chat message, for the `user` message that follows.
    """

    content: str
    outcome: Outcome
    arguments: str
    parsed: dict[str, Any] | None
    seconds: float
    images: tuple[dict[str, Any], ...] = ()


class Toolbox:
    """A set of tools by name.

    Args:
        functions: typed functions or bound methods with docstrings. Coroutine functions are awaited, others
            run in a thread.
        timeout: time limit for one call in seconds.
        result_limit: maximum size of a result in bytes of UTF-8.
        max_threads: maximum number of threads for blocking tools. One request uses at most a quarter.

    Raises:
        ValueError: a function cannot be a tool, or two have the same name.
    """

    def __init__(
        self,
        functions: Sequence[Callable[..., Any]],
        *,
        timeout: float = 10.0,
        result_limit: int = 16_384,
        max_threads: int = 32,
    ) -> None:
        self._own: dict[str, Tool | RemoteTool] = {**define_tools(functions)}
        self._remote: dict[str, list[RemoteTool]] = {}
        self._brought: frozenset[str] = frozenset()
        self._timeout = timeout
        self._result_limit = result_limit
        self._max_threads = max_threads
        self._runner = Runner(max_threads, timeout)
        self._index()

    def _index(self) -> None:
        self._tools = self._own | {tool.name: tool for tools in self._remote.values() for tool in tools}
        self.names = frozenset(self._tools)

    def set_remote(self, server: str, tools: Sequence[RemoteTool]) -> None:
        """Replaces the tools of an MCP server. A tool with the name of one of our own is left out."""
        self._remote[server] = [tool for tool in tools if tool.name not in self._own]
        self._index()

    def extended(self, tools: Iterable[RemoteTool]) -> Toolbox:
        """Returns a toolbox that also has these tools, for one request. It shares everything else."""
        more = Toolbox(
            [], timeout=self._timeout, result_limit=self._result_limit, max_threads=self._max_threads
        )
        more._own, more._runner, more._remote = self._own, self._runner, dict(self._remote)
        more._brought = self._brought
        more._index()
        by_server: dict[str, list[RemoteTool]] = {}
        for tool in tools:
            by_server.setdefault(tool.server, []).append(tool)
        for server, its in by_server.items():
            more.set_remote(server, its)
            more._brought |= {tool.name for tool in its}
        return more

    @property
    def servers(self) -> frozenset[str]:
        """The names of the MCP servers that have answered, also of those that are down now."""
        return frozenset(self._remote)

    def metric_name(self, name: str) -> str:
        """Returns the tool's name in metrics. Clients choose the names of tools that a request brings."""
        return BROUGHT if name in self._brought else name

    @property
    def hung(self) -> int:
        """The number of calls that go on although nobody waits for them."""
        return self._runner.hung

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def is_quick(self, name: str) -> bool:
        """Whether the tool's calls return without waiting for anything."""
        tool = self._tools.get(name)
        return tool is not None and tool.is_quick

    def remote(self, name: str) -> RemoteTool | None:
        """Returns the tool of that name if an MCP server runs it."""
        tool = self._tools.get(name)
        return tool if isinstance(tool, RemoteTool) else None

    def listing(self) -> list[dict[str, Any]]:
        """Returns all tools in the format of a request's `tools`, each with the MCP server that runs it."""
        return [{**tool.spec(), "server": tool.server} for tool in self._tools.values()]

    def specs(self) -> list[dict[str, Any]]:
        """Returns all tools in the format of a request's `tools`."""
        return [tool.spec() for tool in self._tools.values()]

    def complete(self, tool: dict[str, Any]) -> dict[str, Any]:
        """Adds the description and parameters that a client's tool lacks, if a tool of that name is known."""
        given = tool.get("function")
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            return tool
        known = self._tools.get(given["name"])
        if known is None:
            return tool
        if "server" in tool:  # copied from GET /v1/tools
            tool = {key: value for key, value in tool.items() if key != "server"}
        if len(given) == 1 and tool.keys() == {"type", "function"}:
            return known.spec()
        missing: dict[str, Any] = {}
        if given.get("description") is None:
            missing["description"] = known.description
        if _left_out(given.get("parameters")):
            strict = given.get("strict") is True
            missing["parameters"] = known.strict_parameters if strict else known.parameters
        return {**tool, "function": {**given, **missing}} if missing else tool

    async def call(
        self,
        name: str,
        arguments: Arguments | str | None,
        *,
        request_id: str,
        traceparent: str = "",
        tracestate: str = "",
    ) -> ToolResult:
        """Run the tool. Failures become a message to the model.

        Raises:
            asyncio.CancelledError: the caller was cancelled. An async tool is cancelled as well; a thread is
                abandoned after its `on_cancel` callbacks have been started.
        """
        started = time.perf_counter()
        if not isinstance(arguments, Arguments):
            arguments = Arguments.of(arguments)
        tool, parsed = self._tools.get(name), arguments.value
        images: tuple[dict[str, Any], ...] = ()
        if tool is None or parsed is None:
            outcome, content = self._reject(name, arguments.problem)
        else:
            caller = request_id, traceparent, tracestate
            try:
                if isinstance(tool, RemoteTool):
                    outcome, content, images = await self._run_remote(tool, parsed, ToolContext(*caller))
                else:
                    outcome, content = await self._run(tool, parsed, caller)
            except InvalidArguments as error:
                outcome, content = self._reject(name, str(error))
        canonical = "{}" if parsed is None else arguments.canonical
        return ToolResult(content, outcome, canonical, parsed, time.perf_counter() - started, images)

    async def aclose(self) -> None:
        """Stop the threads. Further calls to blocking tools are rejected."""
        self._runner.close()

    async def _run_remote(
        self, tool: RemoteTool, parsed: dict[str, Any], context: ToolContext
    ) -> tuple[Outcome, str, tuple[dict[str, Any], ...]]:
        """Calls a tool of an MCP server, which has a time limit of its own."""
        try:
            result = await tool.run(tool.given(parsed), context)
            content = render(result.value, self._result_limit)
        except CallTimeout as late:
            return "timeout", self._error(str(late)), ()
        except ToolError as error:
            return "error", self._error(str(error)), ()
        except Exception as unexpected:
            log.exception("%s raised", tool.name)
            return "error", self._error(f"{tool.name} failed: {type(unexpected).__name__}"), ()
        if result.failed:
            return "error", self._error(content), result.images
        return "ok", content, result.images

    async def _run(
        self, tool: Tool, parsed: dict[str, Any], caller: tuple[str, str, str]
    ) -> tuple[Outcome, str]:
        try:
            values = tool.validate(parsed)
            context = ToolContext(*caller) if tool.context_parameters else None
            for parameter in tool.context_parameters:
                values[parameter] = context
            if tool.is_quick:
                return "ok", render(tool.function(**values), self._result_limit)
        except InvalidArguments:
            raise
        except BaseException as error:  # noqa: BLE001  a tool may raise anything, and so may a validator in its annotations
            return "error", self._explain(tool, error)
        return await self._wait_for(tool, functools.partial(tool.function, **values), context, caller[0])

    async def _wait_for(
        self, tool: Tool, call: Callable[[], Any], context: ToolContext | None, request_id: str
    ) -> tuple[Outcome, str]:
        runner = self._runner
        try:
            result = await (runner.waiting(call) if tool.is_async else runner.blocking(call, request_id))
        except CallTimeout:
            if context:
                context.cancel()
            return "timeout", self._error(f"{tool.name} took longer than {self._timeout:g} s and was stopped")
        except CallCancelled:
            return "error", self._error(f"{tool.name} was cancelled by its own code")
        except CallFailed as failure:
            if isinstance(failure.error, NoFreeThread):
                return "busy", self._error(f"all {self._max_threads} tool threads are taken: try again later")
            return "error", self._explain(tool, failure.error)
        except asyncio.CancelledError:
            if context:
                context.cancel()
            raise
        try:
            return "ok", render(result, self._result_limit)
        except BaseException as error:  # noqa: BLE001  a result may have a method that raises anything
            return "error", self._explain(tool, error)

    def _reject(self, name: str, problem: str) -> tuple[Outcome, str]:
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(sorted(self.names)) or "none"
            return "error", self._error(f"unknown tool {name!r}; available tools: {known}")
        expected = f". {name} expects: {tool.expected()}" if isinstance(tool, Tool) else ""
        return "invalid_arguments", self._error(problem + expected)

    def _explain(self, tool: Tool, error: BaseException) -> str:
        if isinstance(error, ToolError):
            return self._error(str(error))
        frames = "".join(traceback.format_tb(error.__traceback__))
        # The text of an exception often repeats arguments, so it is only logged at level debug.
        log.error("%s raised %s\n%s", where_defined(tool.function), type(error).__name__, frames)
        log.debug("full exception", exc_info=error)
        return self._error("".join(traceback.format_exception_only(error)).strip())

    def _error(self, message: str) -> str:
        return render_error(message, self._result_limit)


def _left_out(parameters: Any) -> bool:
    """Whether a schema says nothing. Some clients must send one."""
    return parameters is None or (isinstance(parameters, dict) and parameters.keys() <= {"type"})
