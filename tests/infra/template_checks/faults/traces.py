"""Faults of where traces go."""

from __future__ import annotations

import json
from typing import Any

from tests.infra.template_checks.faults.tools import ORCHESTRATOR, TASK_ROLE, secret
from tests.infra.template_checks.mutations import (
    TASK,
    Change,
    Mutation,
    Templates,
    resources,
    variable,
    without_action,
)


def beside(**fields: Any) -> Change:
    """Sets fields of the collector's container."""

    def change(templates: Templates) -> None:
        resources(templates, TASK, ORCHESTRATOR)[0]["Properties"]["ContainerDefinitions"][1].update(fields)

    return change


def configured(*path: str, value: Any) -> Change:
    """Sets a value in the collector's configuration."""

    def change(templates: Templates) -> None:
        box = resources(templates, TASK, ORCHESTRATOR)[0]["Properties"]["ContainerDefinitions"][1]
        [variable] = box["Environment"]
        config = json.loads(variable["Value"])
        target = config
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
        variable["Value"] = json.dumps(config)

    return change


def without_collector(templates: Templates) -> None:
    resources(templates, TASK, ORCHESTRATOR)[0]["Properties"]["ContainerDefinitions"].pop()


LISTENS = ("receivers", "otlp", "protocols", "http", "endpoint")
PIPELINE = ("service", "pipelines", "traces")
SIDECAR: tuple[tuple[str, Change], ...] = (
    ("traces go elsewhere", variable(ORCHESTRATOR, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://10.0.0.9:4318")),
    ("every request traced", variable(ORCHESTRATOR, "OTEL_TRACES_SAMPLER_ARG", None)),
    ("no collector beside the orchestrator", without_collector),
    ("collector that ends the task", beside(Essential=True)),
    (
        "collector without a version",
        beside(Image="public.ecr.aws/aws-observability/aws-otel-collector:latest"),
    ),
    ("collector that takes all memory", beside(Memory=None)),
    ("collector that others reach", beside(PortMappings=[{"ContainerPort": 4318}])),
    ("collector without a configuration", beside(Environment=[])),
    ("collector on another port", configured(*LISTENS, value="127.0.0.1:4317")),
    ("collector that sends nothing", configured(*PIPELINE, "exporters", value=["debug"])),
    ("collector with a processor of nobody", configured(*PIPELINE, "processors", value=["redact"])),
)
ENDPOINT: tuple[tuple[str, Change], ...] = (
    ("key of the collector lost", secret("OTEL_EXPORTER_OTLP_HEADERS", None)),
    ("key of the collector in clear", variable(ORCHESTRATOR, "OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")),
)
FAULTS = (
    *(Mutation(name, "T-traces", change, "traced") for name, change in SIDECAR),
    *(Mutation(name, "T-traces", change, "own_tools") for name, change in ENDPOINT),
    Mutation(
        "traces that nobody asked for",
        "T-traces",
        variable(ORCHESTRATOR, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
    ),
    Mutation(
        "collector that may not write",
        "T-role-may",
        without_action(TASK_ROLE, "xray:PutTraceSegments"),
        "traced",
    ),
)
