"""The engines' services of a deployment, one per model."""

from __future__ import annotations

from dataclasses import dataclass

from infra.deployment.plan import Plan

from .account import Account


@dataclass(frozen=True, slots=True)
class EngineService:
    """The ECS service of a model's engines, and its cluster."""

    plan: Plan
    cluster: str
    service: str

    @property
    def name(self) -> str:
        """What to call it in a report."""
        entry = self.plan.deployment.entry
        return f"engine of {entry}" if len(self.plan.deployment.models) > 1 else "engine"

    @property
    def whose(self) -> str:
        """The start of a line about it, where there are several."""
        return f"{self.name}: " if len(self.plan.deployment.models) > 1 else ""


def engine_services(account: Account) -> list[EngineService]:
    """Returns the services of all models that are deployed."""
    outputs = account.outputs()
    return [
        EngineService(plan, outputs[f"ClusterName{plan.label}"], outputs[f"EngineService{plan.label}"])
        for plan in account.plan.entries
        # A model that is new in the file is not deployed yet.
        if not plan.label or f"EngineService{plan.label}" in outputs
    ]
