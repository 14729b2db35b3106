"""Rules on a deployment's own tools, and on variables of the orchestrator."""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.deployment.environment import OTHERS, OWNED
from infra.deployment.plan import Plan
from infra.deployment.tool_files import modules_in, tools_directory, tools_requirements, unlocked

from .candidates import nearest
from .rule import Found, Severity, rule

_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bsk-[\w-]{20,}|\bgh[pousr]_\w{30,}|\bxox[abprs]-\w"
    r"|\bhf_\w{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.|://[^/\s:@]+:[^/\s@]+@"
)
"""Private keys; keys of AWS, OpenAI, GitHub, Slack and Hugging Face; JSON web tokens; passwords in URLs."""

_SECRET_NAME = re.compile(
    r"(^|[_-])(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PWD|CREDENTIALS?|AUTHORIZATION)$", re.IGNORECASE
)


@rule("tool-files", Severity.ERROR)
def tool_files(plan: Plan) -> Found[str]:
    """The directory of the tools has the named modules, and their packages are locked with hashes."""
    tools = plan.deployment.tools
    directory, requirements = tools_directory(tools), tools_requirements(tools)
    if not directory.is_dir():
        yield ("tools.directory", f"there is no directory {tools.directory} in the project")
    elif requirements is None:
        there = modules_in(directory)
        for number, module in enumerate(tools.modules):
            if module.partition(".")[0] not in there:
                near = nearest(module, there, count=1)
                meant = f"; nearest: {near[0]}" if near else ", which has no modules"
                yield (f"tools.modules.{number}", f"there is no module {module} in {tools.directory}{meant}")
    if requirements is not None and not requirements.is_file():
        yield ("tools.requirements", f"there is no file {tools.requirements} in the project")
    elif requirements is not None and (
        loose := unlocked(requirements.read_text(encoding="utf-8", errors="replace"))
    ):
        yield (
            "tools.requirements",
            f"{', '.join(loose)} in {tools.requirements} has no exact version with a hash; make lock-tools "
            "writes such a file from a requirements.in",
        )


@rule("variables", Severity.ERROR)
def variables(plan: Plan) -> Found[str]:
    """Each variable of the orchestrator is set in one place, and not in place of a setting of this file."""
    places: dict[str, str] = {}
    for place, name in _names(plan):
        if name in OWNED:
            own = OWNED[name]
            yield (
                place,
                f"{name} is controlled by {own}; set that instead" if own else f"{name} cannot be set",
            )
        elif name in OTHERS or name.startswith(("AWS_", "ECS_", "LD_")):
            yield (place, f"{name} cannot be set, because the image or ECS sets it")
        elif name in places:
            yield (place, f"{name} is also set by {places[name]}; keep one")
        places.setdefault(name, place)


def _names(plan: Plan) -> Iterator[tuple[str, str]]:
    tools = plan.deployment.tools
    for section, names in (
        ("orchestrator.environment", plan.deployment.orchestrator.environment),
        ("tools.environment", tools.environment),
        ("tools.secrets", tools.secrets),
    ):
        yield from ((f"{section}.{name}", name) for name in names)


def _plain(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Variables whose values are in the templates: places, names and values."""
    for section, values in (
        ("orchestrator.environment", plan.deployment.orchestrator.environment),
        ("tools.environment", plan.deployment.tools.environment),
    ):
        yield from ((f"{section}.{name}", name, value) for name, value in values.items())
    for number, server in enumerate(plan.deployment.tools.mcp):
        for header, value in server.headers.items():
            if isinstance(value, str):
                yield f"tools.mcp.{number}.headers.{header}", header, value


def _secret_place(place: str, name: str) -> str:
    return f"{place}.arn" if place.startswith("tools.mcp.") else f"tools.secrets.{name}"


@rule("secret-values", Severity.ERROR)
def secret_values(plan: Plan) -> Found[str]:
    """No secret is in the deployment file, because everyone who can read the template could read it."""
    for place, name, value in _plain(plan):
        if _SECRET_VALUE.search(value):
            yield (
                place,
                "the value looks like a secret; store it: `aws secretsmanager create-secret --name "
                f"{name} --secret-string file://FILE` and set {_secret_place(place, name)} to the ARN "
                "that it prints",
            )


@rule("secret-names", Severity.WARNING)
def secret_names(plan: Plan) -> Found[str]:
    """A variable or header whose name says that it is a secret is read from a secret."""
    for place, name, value in _plain(plan):
        if _SECRET_NAME.search(name) and not _SECRET_VALUE.search(value):
            yield (
                place,
                "the template shows its value; if it is a secret, use "
                f"{_secret_place(place, name)} with an ARN",
            )


@rule("tool-egress", Severity.ERROR)
def tool_egress(plan: Plan) -> Found[str]:
    """Connections of tools lead to a group of the same VPC, and a security group has each rule once."""
    tools = plan.deployment.tools
    found = {(443, "0.0.0.0/0")} | ({(5432, "0.0.0.0/0")} if tools.database_url_secret_arn else set())
    for number, one in enumerate(tools.egress):
        peer = one.cidr or one.security_group or ""
        if one.security_group and plan.deployment.network.existing_vpc is None:
            yield (
                f"tools.egress.{number}",
                f"{peer} cannot be in the VPC that the deployment creates; use its VPC with "
                "network.existing_vpc, or give a network as cidr",
            )
        if (one.port, peer) in found:
            yield (f"tools.egress.{number}", f"port {one.port} of {peer} is open already; remove this entry")
        found.add((one.port, peer))


@rule("tool-permissions", Severity.WARNING)
def tool_permissions(plan: Plan) -> Found[str]:
    """Tools act on named resources: a model decides when they are called."""
    for number, statement in enumerate(plan.deployment.tools.statements):
        if "*" in statement.resources:
            actions = ", ".join(statement.actions)
            yield (
                f"tools.statements.{number}.resources",
                f"every tool may {actions} on everything in the account; list the ARNs that the tools need",
            )


@rule("mcp-servers", Severity.ERROR)
def mcp_servers(plan: Plan) -> Found[str]:
    """MCP servers have different names, and secrets reach them encrypted."""
    names: dict[str, int] = {}
    for number, server in enumerate(plan.deployment.tools.mcp):
        place, key = f"tools.mcp.{number}", server.variable("")
        if key in names:
            yield (
                f"{place}.name",
                f"{server.name} is too similar to tools.mcp.{names[key]}; rename one",
            )
        names.setdefault(key, number)
        if server.secrets and server.url.startswith("http://"):
            yield (f"{place}.url", "secret headers would be sent unencrypted; use https")


@rule("mcp-egress", Severity.ERROR)
def mcp_egress(plan: Plan) -> Found[str]:
    """The orchestrator's security group lets it connect to the MCP servers."""
    tools = plan.deployment.tools
    open_ports = {443, *(one.port for one in tools.egress)}
    for number, server in enumerate(tools.mcp):
        if server.port not in open_ports:
            yield (
                f"tools.mcp.{number}.url",
                f"the orchestrator may not connect to port {server.port}; add "
                f"{{port: {server.port}, cidr: NETWORK}} or {{port: {server.port}, security_group: GROUP}} "
                "to tools.egress",
            )


RULES = (
    tool_files,
    variables,
    secret_values,
    secret_names,
    tool_egress,
    tool_permissions,
    mcp_servers,
    mcp_egress,
)
