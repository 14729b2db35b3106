from __future__ import annotations

from orchestrator.telemetry import Telemetry
from orchestrator.tools.mcp.state import ServerState, ServerStates


def test_each_server_has_its_samples() -> None:
    states = [ServerState("a", True, 3, "2026-07-28", "", ()), ServerState("b", False, 0, "", "gone", ())]
    telemetry = Telemetry()
    telemetry.register(ServerStates(lambda: states))
    shown = telemetry.exposition().decode()
    for sample in ('up{server="a"} 1.0', 'up{server="b"} 0.0', 'tools{server="a"} 3.0'):
        assert f"mcp_server_{sample}\n" in shown
