"""An order in which CloudFormation may create resources. Imported in the emulator's environment."""

from __future__ import annotations

from typing import Any

import ministack.services.cloudformation.engine as engine

Properties = dict[str, Any]


def soonest(resources: Properties, conditions: Properties) -> list[str]:
    """An order that the dependencies allow, in which image builds and services come as soon as they can:
    after what they say that they need, and before everything else."""
    names = sorted(name for name, body in resources.items() if conditions.get(body.get("Condition"), True))
    needs = {name: sorted(engine._extract_deps(resources[name], set(names)) - {name}) for name in names}
    ordered: list[str] = []

    def place(name: str, above: tuple[str, ...] = ()) -> None:
        if name in above:
            raise ValueError(f"Circular dependency between resources: {above}")
        for need in needs[name]:
            place(need, (*above, name))
        if name not in ordered:
            ordered.append(name)

    for goal in ("Custom::", "AWS::ECS::Service", ""):
        for name in names:
            if resources[name]["Type"].startswith(goal):
                place(name)
    return ordered
