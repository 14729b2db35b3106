"""Rules on the orchestrator and its tools."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.plan import Plan

from .rule import Changes, Found, Severity, rule

FARGATE_MEMORY_MIB = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
}
"""CPU units of a Fargate task and the allowed memory in MiB (Amazon ECS developer guide,
task_definition_parameters, task size)."""


def _memories(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.orchestrator
    for memory in sorted(FARGATE_MEMORY_MIB.get(given.cpu, ()), key=lambda one: abs(one - given.memory_mib)):
        yield {"orchestrator.memory_mib": memory}


def _cpus(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.orchestrator
    for cpu in sorted(FARGATE_MEMORY_MIB, key=lambda one: abs(one - given.cpu)):
        yield {"orchestrator.cpu": cpu}


def _pairs(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.orchestrator
    cpu = min(FARGATE_MEMORY_MIB, key=lambda one: abs(one - given.cpu))
    memory = min(FARGATE_MEMORY_MIB[cpu], key=lambda one: abs(one - given.memory_mib))
    yield {"orchestrator.cpu": cpu, "orchestrator.memory_mib": memory}


@rule("fargate-size", Severity.ERROR, _memories, _cpus, _pairs)
def fargate_size(plan: Plan) -> Found[str]:
    """Fargate supports fixed combinations of CPU and memory."""
    given = plan.deployment.orchestrator
    memories = FARGATE_MEMORY_MIB.get(given.cpu)
    if memories is None:
        yield (
            "orchestrator.cpu",
            f"Fargate does not support {given.cpu}; valid: {', '.join(map(str, FARGATE_MEMORY_MIB))}",
        )
        return
    if given.memory_mib not in memories:
        step = memories[1] - memories[0]
        yield (
            "orchestrator.memory_mib",
            f"with cpu {given.cpu}, Fargate supports {memories[0]} to {memories[-1]} MiB in steps of {step}, "
            f"not {given.memory_mib}",
        )


@rule(
    "task-count",
    Severity.ERROR,
    lambda plan: [{"orchestrator.max_tasks": plan.deployment.orchestrator.min_tasks}],
    lambda plan: [{"orchestrator.min_tasks": plan.deployment.orchestrator.max_tasks}],
)
def task_count(plan: Plan) -> Found[str]:
    """The minimum number of tasks does not exceed the maximum."""
    given = plan.deployment.orchestrator
    if given.min_tasks <= given.max_tasks:
        return
    yield ("orchestrator.max_tasks", f"{given.max_tasks} is less than min_tasks ({given.min_tasks})")


@rule(
    "tool-timeout",
    Severity.WARNING,
    lambda plan: [{"tools.timeout_seconds": plan.deployment.orchestrator.request_timeout_seconds - 1}],
)
def tool_timeout(plan: Plan) -> Found[str]:
    """A tool that takes the whole request leaves no time for the answer."""
    tool, request = (
        plan.deployment.tools.timeout_seconds,
        plan.deployment.orchestrator.request_timeout_seconds,
    )
    if tool < request:
        return
    yield ("tools.timeout_seconds", f"a tool may take {tool} s, but the whole request only {request} s")


@rule("database-tables", Severity.ERROR, lambda _: [{"tools.database_url_secret_arn": None}])
def database_tables(plan: Plan) -> Found[str]:
    """The orchestrator does not start with a database but without a list of readable tables."""
    tools = plan.deployment.tools
    if tools.database_url_secret_arn is None or tools.database_tables:
        return
    yield ("tools.database_tables", "list the tables of your database that query_database may read")


RULES = (
    fargate_size,
    task_count,
    tool_timeout,
    database_tables,
)
