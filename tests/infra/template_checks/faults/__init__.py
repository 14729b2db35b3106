"""All seeded faults: each names the rule that finds it."""

from __future__ import annotations

from tests.infra.template_checks.faults import (
    access,
    alarms,
    builds,
    capacity,
    engine_scaling,
    gpu_instances,
    ingress,
    model_files,
    models,
    network,
    roles,
    services,
    tools,
    traces,
    user_data,
    warm_pool,
)
from tests.infra.template_checks.mutations import Mutation

FAULTS: tuple[Mutation, ...] = (
    *gpu_instances.FAULTS,
    *capacity.FAULTS,
    *engine_scaling.FAULTS,
    *user_data.FAULTS,
    *warm_pool.FAULTS,
    *services.FAULTS,
    *ingress.FAULTS,
    *network.FAULTS,
    *builds.FAULTS,
    *roles.FAULTS,
    *tools.FAULTS,
    *traces.FAULTS,
    *access.FAULTS,
    *alarms.FAULTS,
    *model_files.FAULTS,
    *models.FAULTS,
)
