"""The rehearsal of scaling with the stand-in engine, by the alarms of the synthesized template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.scaling.__main__ import plan_of, synthesized
from bench.scaling.resources import Resources

from .scaling import MODEL, deployment_file
from .scaling_account import orchestrator
from .scaling_engines import Engines, Standin
from .scaling_scenario import Load, play

SPEED = 200.0
TOKENS = 40
LOAD = Load(MODEL, TOKENS, {"standin": {"chunks": TOKENS - 1, "delay_token": 0.03}}, limit_seconds=240)


def variables(template: dict[str, Any]) -> dict[str, str]:
    """Returns what the template gives the orchestrator as text."""
    (task,) = [
        body["Properties"]
        for name, body in template["Resources"].items()
        if body["Type"] == "AWS::ECS::TaskDefinition" and "Orchestrator" in name
    ]
    (container,) = task["ContainerDefinitions"]
    return {one["Name"]: one["Value"] for one in container["Environment"] if isinstance(one["Value"], str)}


@pytest.mark.timeout(600)
async def test_engines_follow_the_load_and_no_user_notices(tmp_path: Path) -> None:
    file = tmp_path / "tandem.yaml"
    file.write_text(deployment_file())
    plan = plan_of(file)
    template = synthesized(plan)
    resources = Resources.of_template(template)
    engines = Engines(lambda port: Standin(port, MODEL), resources.most)
    service = orchestrator(variables(template), engines, model=MODEL, speed=SPEED)
    scaling = await play(resources, engines, service, LOAD, slow_start=2 * plan.start_seconds, give_up=True)
    assert scaling.changes == [1, 2, 1, 0, 1, 0, 1, 0]
