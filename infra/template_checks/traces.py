"""Rules on where traces go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from infra.deployment.checks.rule import Found, rule

from .permissions.arns import Arns
from .services import orchestrator_services
from .template import Assembly, Resource, container, environment

_PINNED = re.compile(r"public\.ecr\.aws/aws-observability/aws-otel-collector:v\d+\.\d+\.\d+")
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


@rule("T-traces")
def traces(assembly: Assembly) -> Found[Resource]:
    """Traces go where the deployment file says, and a collector in the task can take none but its own."""
    wanted = assembly.plan.deployment.orchestrator.traces
    arns = Arns(assembly)
    for _, task in orchestrator_services(assembly):
        given = environment(task)
        for name, value in (
            ("OTEL_EXPORTER_OTLP_ENDPOINT", wanted.url if wanted else None),
            ("OTEL_TRACES_SAMPLER_ARG", f"{wanted.sample_ratio:g}" if wanted else None),
        ):
            if given.get(name) != value:
                yield (task, f"{name} is {given.get(name)}; the deployment file says {value}")
        secrets = {
            one["Name"]: arns.text(task.template, one["ValueFrom"])
            for one in container(task).get("Secrets", [])
        }
        headers = wanted.headers_secret_arn if wanted else None
        if secrets.get(_HEADERS) != headers or _HEADERS in given:
            yield (task, f"{_HEADERS} must be the secret {headers}")
        beside = (task.get("ContainerDefinitions") or [])[1:]
        expected = int(bool(wanted and wanted.sidecar))
        if len(beside) != expected:
            yield (task, f"{len(beside)} containers beside the orchestrator; expected {expected}")
        for other in beside:
            yield from ((task, problem) for problem in _problems(other, wanted.url if wanted else ""))


def _problems(collector: dict[str, Any], url: str) -> Iterator[str]:
    if not _PINNED.fullmatch(str(collector.get("Image"))):
        yield f"the collector's image {collector.get('Image')} has no version"
    if collector.get("Essential") is not False:
        yield "the collector is essential: if it ends, so does the orchestrator"
    if not collector.get("Memory"):
        yield "the collector has no memory limit, so it could take the orchestrator's"
    if collector.get("PortMappings"):
        yield "the collector's port is mapped; only the orchestrator needs it"
    variables = {one["Name"]: one["Value"] for one in collector.get("Environment", [])}
    try:
        config = json.loads(variables["AOT_CONFIG_CONTENT"])
        listens = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
        pipeline = config["service"]["pipelines"]["traces"]
    except (KeyError, TypeError, ValueError):
        yield "AOT_CONFIG_CONTENT has no pipeline for traces over HTTP"
        return
    if listens != urlsplit(url).netloc:
        yield f"the collector listens on {listens}, but the orchestrator sends to {url}"
    for kind in ("receivers", "processors", "exporters"):
        for name in set(pipeline.get(kind, ())) - set(config.get(kind, {})):
            yield f"the collector's pipeline names {name}, which is not among its {kind}"
    if pipeline.get("exporters") != ["awsxray"]:
        yield "the collector does not send traces to X-Ray"


RULES = (traces,)
