"""The state of MCP servers, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of one MCP server as /ready and /metrics report it.

    Attributes:
        reason: why the server is down; empty if it is up.
        left_out: why tools of the server are not used.
    """

    name: str
    up: bool
    tools: int
    version: str
    reason: str
    left_out: tuple[str, ...]


class ServerStates(Collector):
    """Reads the state of the MCP servers when /metrics is requested."""

    def __init__(self, states: Callable[[], Iterable[ServerState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("mcp_server_up", "1 if the MCP server answers, 0 if not", labels=["server"])
        tools = GaugeMetricFamily("mcp_server_tools", "Tools that the MCP server offers", labels=["server"])
        for state in self._states():
            up.add_metric([state.name], float(state.up))
            tools.add_metric([state.name], float(state.tools))
        yield up
        yield tools
