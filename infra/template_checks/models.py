"""Rules on several models behind one orchestrator."""

from __future__ import annotations

import json

from infra.deployment.checks.rule import Found, rule
from infra.deployment.environment import engine_models, engine_name

from .gpu_instances import engine_services
from .one_model import named_engines
from .services import orchestrator_services
from .template import Assembly, Resource, environment


@rule("T-models")
def models(assembly: Assembly) -> Found[Resource]:
    """The orchestrator knows every model of the deployment file, and each has engines of its own."""
    wanted = engine_models(assembly.plan)
    for _, task in orchestrator_services(assembly):
        if (given := environment(task).get("MODELS", "")) != wanted:
            yield (task, f"MODELS is {given or 'unset'}; it must be {wanted or 'unset'}")
    registered = [name for name, _, _ in named_engines(assembly)]
    names = sorted(engine_name(one) for one in assembly.plan.entries)
    for service, _ in engine_services(assembly):
        if sorted(registered) != names:
            yield (service, f"the engines are registered as {sorted(registered)}; expected {names}")


@rule("T-cluster-per-model")
def cluster_per_model(assembly: Assembly) -> Found[Resource]:
    """A capacity provider in use cannot leave its cluster: models share none, or none could be removed."""
    seen: dict[Resource, Resource] = {}
    for service, _ in engine_services(assembly):
        cluster = assembly.follow(service, "Cluster")
        if cluster is not None and (other := seen.setdefault(cluster, service)) != service:
            yield (service, f"it shares {cluster.logical_id} with {other.logical_id}; give it its own")


@rule("T-adapters")
def adapters(assembly: Assembly) -> Found[Resource]:
    """Engines load the adapters of the deployment file, and no others."""
    models = {engine_name(one): one.deployment.model for one in assembly.plan.entries}
    for name, _, task in named_engines(assembly):
        variables, model = environment(task), models.get(name)
        if model is None:
            continue
        given = {one["name"]: one["source"] for one in json.loads(variables.get("ADAPTERS", "[]"))}
        if given != dict(model.adapters):
            yield (task, f"ADAPTERS has {given}; the deployment file has {dict(model.adapters)}")
        if (later := variables.get("ADAPTERS_FROM")) != model.adapters_from:
            yield (task, f"ADAPTERS_FROM is {later or 'unset'}; it must be {model.adapters_from or 'unset'}")
        if variables.get("KIND", "chat") != model.kind:
            yield (task, f"KIND is {variables.get('KIND', 'chat')}; the model is of the kind {model.kind}")


RULES = (models, cluster_per_model, adapters)
