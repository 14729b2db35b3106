"""Rules on what the orchestrator's container gets for the tools."""

from __future__ import annotations

from infra.deployment.checks.rule import Found, rule
from infra.deployment.environment import OWNED, mcp_servers

from .permissions.arns import Arns
from .services import orchestrator_services
from .template import Assembly, Resource, container, environment


@rule("T-tool-variables")
def tool_variables(assembly: Assembly) -> Found[Resource]:
    """The container has the variables and secrets of the deployment file, and no others."""
    deployment, arns = assembly.plan.deployment, Arns(assembly)
    tools = deployment.tools
    servers = {"MCP_SERVERS": mcp_servers(tools)} if tools.mcp else {}
    expected = {
        **servers,
        **tools.environment,
        **deployment.orchestrator.environment,
        **{
            name: f"{one.arn}:{one.json_key}::" if one.json_key else one.arn
            for name, one in tools.all_secrets.items()
        },
    }
    for _, task in orchestrator_services(assembly):
        values = {name: arns.text(task.template, value) for name, value in environment(task).items()}
        for entry in container(task).get("Secrets", []):
            name = entry["Name"]
            if name in values:
                yield (task, f"{name} is both a variable and a secret")
            if name not in tools.all_secrets and name in expected:
                yield (task, f"{name} is a secret, but the deployment file gives its value")
            values[name] = arns.text(task.template, entry["ValueFrom"])
        for name in tools.all_secrets:
            if name in environment(task):
                yield (task, f"{name} is in clear; it must be read from {tools.all_secrets[name].arn}")
        for name, value in expected.items():
            if values.get(name) != value:
                yield (task, f"{name} is {values.get(name)}; the deployment file says {value}")
        for name in sorted(values.keys() - expected.keys() - OWNED.keys()):
            yield (task, f"{name} is in its environment, but not in the deployment file")


RULES = (tool_variables,)
