"""All targets by name."""

from __future__ import annotations

from tests.fuzz.target import Target

from . import (
    bodies,
    deployment_files,
    engine_bytes,
    forms,
    http_bytes,
    mcp_programs,
    mcp_servers,
    schemas,
    tool_results,
    written_calls,
)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        http_bytes.TARGET,
        bodies.TARGET,
        engine_bytes.TARGET,
        forms.TARGET,
        written_calls.TARGET,
        tool_results.TARGET,
        schemas.TARGET,
        mcp_servers.TARGET,
        mcp_programs.TARGET,
        deployment_files.TARGET,
    )
}
