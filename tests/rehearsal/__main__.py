"""`python -m tests.rehearsal`: deploys, runs, changes, breaks and destroys the deployment, on this machine.

ENGINE=vllm runs the real vLLM on the CPU behind the deployed orchestrator, instead of the stand-in.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.lines import Mark, show
from ops.smoke import Target, smoke

from .emulator import Emulator, EmulatorError
from .expectations import CHECKS, Deployed, same
from .inventory import inventory, leftovers
from .project import CommandFailed, Project
from .tiers import DeployedTiers

PARAMETER = "tandem-foundation:CertificateArn"


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints what is done and how long it took."""
    print(f"\n{title}", flush=True)
    begun = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)


def saw(text: str) -> None:
    print(f"  ok  {text}", flush=True)


class Rehearsal:
    """The steps, in their order."""

    def __init__(self, emulator: Emulator, project: Project) -> None:
        self.emulator = emulator
        self.project = project
        acm = emulator.client("acm")
        self.certificate = acm.request_certificate(DomainName="api.example.com")["CertificateArn"]

    def deploy(self, *arguments: str, fails: bool = False) -> None:
        self.project.deploy("--parameters", f"{PARAMETER}={self.certificate}", *arguments, fails=fails)

    def first(self) -> None:
        with step("cdk bootstrap"):
            self.project.bootstrap()
        with step("cdk deploy --all without a certificate: fails, and creates nothing"):
            before = inventory(self.emulator)
            ran = self.project.deploy(fails=True)
            assert "CertificateArn" in ran.output, ran.output[-2000:]
            same(inventory(self.emulator), before, "what there is")
            saw("it asks for CertificateArn; nothing was created")
        with step("cdk deploy --all"):
            self.deploy()
            deployed = Deployed(self.emulator)
            for check in CHECKS:
                saw(f"{check.__name__.replace('_', ' ')}: {check(deployed)}")

    def run(self, engine: str) -> None:
        with (
            step(f"The deployed task definitions as processes, the engine as {engine}"),
            DeployedTiers(self.emulator, engine=engine) as tiers,
        ):
            for substitution in tiers.substitutions:
                print(f"  instead  {substitution}")
            lines = smoke(Target(tiers.url, tiers.key))
            show(f"Smoke of {tiers.url}", lines, as_json=False)
            if any(line.mark is not Mark.OK for line in lines):
                raise AssertionError(f"the smoke conversation failed; the tiers' log:\n{tiers.log()}")

    def change(self) -> None:
        with step("cdk deploy --all with orchestrator.max_tasks: 12"):
            self.project.change_knob("  max_tasks: 10 ", "  max_tasks: 12 ")
            changed = self._changed(self.deploy)
            same(sorted(changed), ["scalable target"], "what changed")
            saw("only the scaling target changed: 3 to 12 tasks")
        with step("cdk deploy --all with another line in the orchestrator's code"):
            self.project.change_orchestrator("another release")
            changed = self._changed(self.deploy)
            expected = ["image tandem/orchestrator", "service Orchestrator", "task definition Orchestrator"]
            same(sorted(changed), expected, "what changed")
            saw("a new image, task definition and rollout of the orchestrator; nothing else changed")

    def fail(self) -> None:
        with step("A release whose image cannot be built: rolls back"):
            self.project.change_orchestrator("a release that fails")
            self.emulator.builds_end_with("FAILED")
            before = inventory(self.emulator)
            self.deploy(fails=True)
            same(inventory(self.emulator), before, "what there is")
            same(self._status("tandem-serving"), "UPDATE_ROLLBACK_COMPLETE", "status of the stack")
            self.emulator.builds_end_with(None)
            saw("UPDATE_ROLLBACK_COMPLETE, and everything is as it was")
        with step("The same release, built this time"):
            self.deploy()
            same(self._status("tandem-serving"), "UPDATE_COMPLETE", "status of the stack")
            saw("UPDATE_COMPLETE")

    def destroy(self) -> None:
        with step("cdk destroy --all"):
            self.project.destroy()
            same(leftovers(self.emulator), [], "what is left")
            saw("nothing is left, but for what cdk bootstrap made")

    def _changed(self, action: Callable[[], None]) -> list[str]:
        before = inventory(self.emulator)
        action()
        after = inventory(self.emulator)
        return [name for name in {*before, *after} if before.get(name) != after.get(name)]

    def _status(self, stack: str) -> Any:
        formation = self.emulator.client("cloudformation")
        return formation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]


def rehearse_order(directory: Path) -> None:
    """A dependency that is missing in a template is found where nothing but chance stood for it."""
    with Emulator(directory / "ordered", order="soonest") as emulator:
        project = Project(_made(directory / "ordered-project"), emulator)
        rehearsal = Rehearsal(emulator, project)
        with step("cdk deploy --all, builds and services as soon as what they need is there"):
            project.bootstrap()
            rehearsal.deploy()
            saw("every dependency is there")
        with step("The same without the engine's dependency on its capacity: has to fail"):
            project.destroy()
            project.cdk("synth", "--quiet")
            _forget_capacity_dependency(project.directory / "cdk.out")
            _forget_assets(emulator)
            parameter = f"{PARAMETER}={rehearsal.certificate}"
            ran = project.deploy("--app", "cdk.out", "--parameters", parameter, fails=True)
            assert "is not associated with the cluster" in ran.output, ran.output[-3000:]
            saw("it fails: the order does find a missing dependency")


def _forget_capacity_dependency(assembly: Path) -> None:
    """Takes it out of the template; the preflight would have stopped the synthesis."""
    file = assembly / "tandem-serving.template.json"
    template = json.loads(file.read_text())
    kinds = {name: body["Type"] for name, body in template["Resources"].items()}
    associations = {name for name, kind in kinds.items() if kind.endswith("CapacityProviderAssociations")}
    for name, body in template["Resources"].items():
        if kinds[name] == "AWS::ECS::Service":
            body["DependsOn"] = [one for one in body.get("DependsOn", []) if one not in associations]
    file.write_text(json.dumps(template))


def _forget_assets(emulator: Emulator) -> None:
    """Else the CLI takes the template that it has uploaded before, by the hash in its name."""
    s3 = emulator.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        for kept in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            s3.delete_object(Bucket=bucket["Name"], Key=kept["Key"])


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def main() -> int:
    """Runs all steps; 1 at the first that does not go as it should."""
    engine = os.environ.get("ENGINE", "standin")
    if engine not in ("standin", "vllm"):
        print(f"ENGINE={engine} is neither standin nor vllm", file=sys.stderr)
        return 2
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="tandem-rehearsal-") as name:
            directory = Path(name)
            with Emulator(directory / "aws") as emulator:
                print(f"AWS is an emulator at {emulator.url}; the CDK CLI is the real one", flush=True)
                rehearsal = Rehearsal(emulator, Project(_made(directory / "project"), emulator))
                rehearsal.first()
                rehearsal.run(engine)
                rehearsal.change()
                rehearsal.fail()
                rehearsal.destroy()
            rehearse_order(directory)
    except (AssertionError, CommandFailed, EmulatorError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the emulator and all that was deployed in it are gone.", file=sys.stderr)
        return 130
    print(f"\nThe rehearsal went through in {time.monotonic() - begun:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
