"""Faults of the image builds and of the functions that CloudFormation waits for."""

from __future__ import annotations

from tests.infra.template_checks.mutations import IMAGE, PROJECT, Mutation, drop, put, without_dependency

RULE, FUNCTION = "AWS::Events::Rule", "AWS::Lambda::Function"
MACHINE = "Environment"

FAULTS = (
    Mutation("build without Docker", "T-build-machine", put(PROJECT, (MACHINE, "PrivilegedMode"), False)),
    Mutation(
        "engine built on a small machine",
        "T-build-machine",
        put(PROJECT, (MACHINE, "ComputeType"), "BUILD_GENERAL1_SMALL", "Engine"),
    ),
    Mutation(
        "machine that Docker does not run on",
        "T-build-machine",
        put(PROJECT, (MACHINE, "ComputeType"), "BUILD_LAMBDA_10GB", "Orchestrator"),
    ),
    Mutation("image without a project", "T-build-machine", put(IMAGE, ("Project",), "builds")),
    Mutation("no event at the end of a build", "T-build-end", drop(RULE, (), "Engine")),
    Mutation(
        "time-out of a build not reported",
        "T-build-end",
        put(RULE, ("EventPattern", "detail", "build-status"), ["SUCCEEDED", "FAILED", "STOPPED"]),
    ),
    Mutation("event rule that is off", "T-build-end", put(RULE, ("State",), "DISABLED", "Engine")),
    Mutation(
        "event of another project",
        "T-build-end",
        put(RULE, ("EventPattern", "detail", "project-name"), ["another"], "Orchestrator"),
    ),
    Mutation("build longer than the wait", "T-build-time", put(PROJECT, ("TimeoutInMinutes",), 120)),
    Mutation("queue of eight hours", "T-build-time", drop(PROJECT, ("QueuedTimeoutInMinutes",))),
    Mutation(
        "wait shorter than the build", "T-build-time", put(IMAGE, ("ServiceTimeout",), "600", "Orchestrator")
    ),
    Mutation(
        "two builds at once",
        "T-builds-in-turn",
        without_dependency("ImageBuilderEngineImage", "ImageBuilderOrchestratorImage"),
    ),
    Mutation("function with 3 s", "T-function-time", drop(FUNCTION, ("Timeout",))),
    Mutation(
        "wait that CloudFormation refuses",
        "T-function-time",
        put(IMAGE, ("ServiceTimeout",), "7200", "Engine"),
    ),
)
