"""`make rehearse-scaling`: the deployed alarms and policies start and stop the real vLLM on the CPU.

AWS is the emulator of the rehearsal, with tests/infra/variants/scaled.yaml deployed by the CDK CLI, and its
weights mirrored. Alarms and Application Auto Scaling are those of `bench.scaling`, by what the emulator
describes. Their clock runs faster than ours. ENGINE=standin runs the stand-in engine instead of vLLM.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.scaling.resources import Resources
from tests.support.processes import ROOT

from .emulator import Emulator, EmulatorError
from .expectations import same
from .inventory import leftovers
from .project import CommandFailed, Project
from .scaling_account import LINE_SECONDS, orchestrator
from .scaling_engines import Engines, Standin, real_engines
from .scaling_scenario import Load, play
from .steps import saw, step

PYTHON = Path(os.environ.get("VLLM_PYTHON", ".venv-vllm/bin/python"))
MODEL = "tiny"
_SPEEDS = {"vllm": 12.0, "standin": 100.0}
_LOADS = {
    "vllm": Load(MODEL, 300, {"max_tokens": 300, "ignore_eos": True}, limit_seconds=600),
    "standin": Load(MODEL, 40, {"standin": {"chunks": 39, "delay_token": 0.03}}, limit_seconds=300),
}
_ADDED = """
model:
  source: mirror
  hf_token_secret_arn: arn:aws:secretsmanager:us-east-1:123456789012:secret:hf-token-AbCdEf
  max_num_seqs: 8
  max_num_queued_reqs: 32
"""


def deployment_file() -> str:
    """Returns the deployment file: at most two engines with few requests each, for a small machine."""
    scaled = (ROOT / "tests/infra/variants/scaled.yaml").read_text()
    changed = scaled.replace("max_replicas: 3", "max_replicas: 2")
    assert changed != scaled
    return changed + _ADDED


def deploy(emulator: Emulator, project: Project) -> None:
    """Deploys, and checks what is there of scaling and of the mirror."""
    certificate = emulator.client("acm").request_certificate(DomainName="api.example.com")["CertificateArn"]
    project.write("tandem.yaml", deployment_file())
    project.bootstrap()
    project.deploy("--parameters", f"tandem-foundation:CertificateArn={certificate}")
    s3 = emulator.client("s3")
    buckets = [one["Name"] for one in s3.list_buckets()["Buckets"] if "-models-" in one["Name"]]
    same(len(buckets), 1, "the number of buckets for models")
    kept = [one["Key"] for one in s3.list_objects_v2(Bucket=buckets[0]).get("Contents", [])]
    assert any(key.endswith("/tandem-manifest.json") for key in kept), f"the mirror has no manifest: {kept}"
    saw(f"the role of the build may mirror the model: s3://{buckets[0]}/{kept[0]}")
    scaling = emulator.client("application-autoscaling")
    actions = scaling.describe_scheduled_actions(ServiceNamespace="ecs")["ScheduledActions"]
    same({one["Timezone"] for one in actions}, {"Europe/Berlin"}, "the time zones of the schedule")
    saw(f"{len(actions)} scheduled actions in their time zone")


def described(emulator: Emulator) -> Resources:
    """Returns what scales the engines, as CloudWatch and Application Auto Scaling describe it."""
    scaling = emulator.client("application-autoscaling")
    resources = Resources.of_account(
        scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"],
        scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"],
        emulator.client("cloudwatch").describe_alarms()["MetricAlarms"],
    )
    for alarm in resources.alarms:
        saw(f"{alarm.expression} against {alarm.threshold:g}, {alarm.periods} x {alarm.period} s")
    return resources


def variables(emulator: Emulator) -> dict[str, str]:
    """Returns the environment of the deployed orchestrator."""
    ecs = emulator.ecs
    (arn,) = (one for one in ecs.list_task_definitions()["taskDefinitionArns"] if "Orchestrator" in one)
    (container,) = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"]
    return {one["name"]: one["value"] for one in container["environment"]}


def destroy(emulator: Emulator, project: Project) -> None:
    """Destroys the deployment while instances are protected from scale-in."""
    groups: Any = emulator.client("autoscaling")
    (group,) = groups.describe_auto_scaling_groups()["AutoScalingGroups"]
    groups.set_desired_capacity(AutoScalingGroupName=group["AutoScalingGroupName"], DesiredCapacity=2)
    (group,) = groups.describe_auto_scaling_groups()["AutoScalingGroups"]
    same([one["ProtectedFromScaleIn"] for one in group["Instances"]], [True, True], "the protection")
    project.destroy()
    same(leftovers(emulator), [], "what is left")
    saw("two instances were protected from scale-in; nothing is left")


async def scale(resources: Resources, deployed: dict[str, str], kind: str, folder: Path) -> None:
    """Plays all steps against what is deployed."""
    speed = _SPEEDS[kind]
    saw(f"AWS's clock runs {speed:g} times as fast as ours: a period of {LINE_SECONDS} s in {10 / speed:g} s")
    make = real_engines(PYTHON, folder) if kind == "vllm" else lambda port: Standin(port, MODEL)
    engines = Engines(make, resources.most)
    service = orchestrator(deployed, engines, model=MODEL, speed=speed)
    await play(resources, engines, service, _LOADS[kind], slow_start=700, give_up=kind == "standin")


def rehearse(kind: str, folder: Path) -> None:
    """All steps from the deployment to its end."""
    with Emulator(folder / "aws") as emulator:
        (folder / "project").mkdir()
        project = Project(folder / "project", emulator)
        with step("cdk deploy --all of scaled.yaml, with mirrored weights"):
            deploy(emulator, project)
        with step("What scales the engines"):
            resources, deployed = described(emulator), variables(emulator)
        asyncio.run(scale(resources, deployed, kind, folder))
        with step("cdk destroy --all"):
            destroy(emulator, project)


def main() -> int:
    """Runs all steps; 1 at the first that does not go as it should."""
    kind = os.environ.get("ENGINE", "vllm")
    if kind not in _SPEEDS:
        print(f"ENGINE={kind} is neither standin nor vllm", file=sys.stderr)
        return 2
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="tandem-scaling-") as name:
            rehearse(kind, Path(name))
    except (AssertionError, CommandFailed, EmulatorError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    print(f"\nThe rehearsal of scaling went through in {time.monotonic() - begun:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
