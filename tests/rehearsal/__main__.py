"""`python -m tests.rehearsal`: deploys, runs, changes, breaks and destroys the deployment, on this machine.

ENGINE=vllm runs the real vLLM on the CPU behind the deployed orchestrator, instead of the stand-in.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ops.account import Account as OperatorsAccount
from ops.command_line import plan_of
from tests.support.containers.programs import NoEngine

from .account import Account
from .emulator import Emulator, EmulatorError
from .expectations import CHECKS, Deployed, same
from .inventory import inventory, leftovers
from .own_tool import OwnTool
from .project import CommandFailed, Project, Ran
from .services import DeployedServices, DeploymentFailed
from .serving import Serving
from .several_models import SeveralModels
from .steps import found, saw, step

# Only in an account: the orchestrator's own check has no secret with keys.
_DOES_NOT_START = (
    'assert not __import__("os").environ.get("API_KEYS_SECRET_ARN"), "a release that does not start"'
)
PARAMETER = "tandem-foundation:CertificateArn"


class Rehearsal:
    """The steps, in order."""

    def __init__(self, emulator: Emulator, project: Project) -> None:
        self.emulator = emulator
        self.project = project
        self.serving = Serving(project)
        self.tool = OwnTool(emulator, project, self._make_deploy)
        self.models = SeveralModels(emulator, project, self.serving, self._make_deploy)
        acm = emulator.client("acm")
        self.certificate = acm.request_certificate(DomainName="api.example.com")["CertificateArn"]

    def deploy(self, *arguments: str, fails: bool = False) -> Ran:
        return self.project.deploy("--parameters", f"{PARAMETER}={self.certificate}", *arguments, fails=fails)

    def first(self) -> None:
        self._doctor_before()
        with step("cdk deploy --all without a certificate: fails, and creates nothing"):
            before = inventory(self.emulator)
            ran = self.project.deploy(fails=True)
            assert "CertificateArn" in ran.output, ran.output[-2000:]
            same(inventory(self.emulator), before, "what there is")
            report = "asks for CertificateArn"
            found("no certificate is given", command="npx cdk deploy", report=report, seconds=ran.seconds)
        with step("cdk deploy --all"):
            self.deploy()
            deployed = Deployed(self.emulator)
            for check in CHECKS:
                saw(f"{check.__name__.replace('_', ' ')}: {check(deployed)}")

    def _doctor_before(self) -> None:
        """What is missing is found, one thing after the other, and then nothing is."""
        named = ("--certificate", self.certificate)
        with step("doctor before: its findings, seeded one by one"):
            self._finds("no bootstrap", "is not bootstrapped", "npx cdk bootstrap", *named)
            self.project.bootstrap()
            self.emulator.set_quotas({"L-DB2E81BA": 0})
            increase = "--quota-code L-DB2E81BA --desired-value 4"
            self._finds("a new account's GPU quota", "0 vCPU", increase, *named)
            self.emulator.set_quotas({})
            without_domain = "a certificate without a domain"
            self._finds(without_domain, "without a domain", "ingress.cloudfront: true", *named)
            self.project.change_setting("  domain: null ", "  domain: api.example.com ")
            self._finds("a domain without a certificate", "none is set", "--certificate ARN")
            other = ("--certificate", f"{self.certificate[:-4]}0000")
            self._finds("a certificate that was deleted", "does not exist", "request-certificate", *other)
            ecr = self.emulator.client("ecr")
            ecr.create_repository(repositoryName="tandem/vllm")
            taken = "the repository tandem/vllm already exists"
            self._finds("a repository of that name", taken, "delete-repository", *named)
            ecr.delete_repository(repositoryName="tandem/vllm")
            results = json.loads(self.project.ops("doctor", "--json", *named))["results"]
            same([result for result in results if result["status"] == "error"], [], "findings")
            # The emulator does not know which zones offer what, and doctor reports that it could not check.
            unknown = [result["subject"] for result in results if result["status"] == "unknown"]
            same(unknown, ["instance type"], "what could not be checked")
            saw(f"then no errors in {len(results)} results")

    def _finds(self, fault: str, report: str, fix: str, *arguments: str) -> None:
        begun = time.monotonic()
        results = json.loads(self.project.ops("doctor", "--json", *arguments, status=1))["results"]
        seconds = time.monotonic() - begun
        result = next((one for one in results if report in one["found"]), None)
        assert result, f"doctor does not report {report!r}: {results}"
        same(result["status"], "error", report)
        assert fix in (result["fix"] or ""), f"doctor does not say how to fix it: {result}"
        found(fault, command="make doctor", report=f"{result['subject']}: {report}", seconds=seconds)

    def roles(self) -> None:
        """The emulator denies what the policies of the deployed roles do not allow."""
        for part, denied in (("EngineTaskTaskRole", "engine"), ("OrchestratorTaskTaskRole", "orchestrator")):
            role = self.emulator.role(part)
            secrets = self.emulator.client("secretsmanager", role=role)
            try:
                secrets.get_secret_value(SecretId=self._secret("Engine"))
            except secrets.exceptions.ClientError as error:
                same(error.response["Error"]["Code"], "AccessDeniedException", "the error")
                saw(f"the role of the {denied}'s task may not read the engine's key")
            else:
                raise AssertionError(f"{role} may read the engine's key")

    def _secret(self, part: str) -> str:
        secrets = self.emulator.client("secretsmanager").list_secrets()["SecretList"]
        return next(str(one["ARN"]) for one in secrets if part in one["Name"])

    def look(self) -> None:
        with step("doctor after"):
            results = json.loads(self.project.ops("doctor", "--json", status=1))["results"]
            statuses = {result["subject"]: result["status"] for result in results}
            found = {result["subject"]: result["found"] for result in results}
            for subject in ("credentials", "stacks", "services", "stopped tasks"):
                same(statuses[subject], "ok", subject)
                saw(f"{subject}: {found[subject]}")
            # An emulator starts no instance and no task, and doctor reports that.
            same(statuses["GPU instances"], "error", "GPU instances")
            saw(f"GPU instances: {found['GPU instances']}")

    def change(self, services: DeployedServices) -> None:
        deploy = ("deploy", "--yes", "--certificate", self.certificate)
        with step("make deploy of the same file: records the machine image"):
            changed = self._changed(lambda: self._tested(services, *deploy))
            kinds = sorted({name.rpartition(" ")[0] for name in changed})
            same(kinds, ["launch template"], "what changed")
            assert "  ami: ami-0123456789abcdef0  # al2023-ami-ecs-gpu" in self.project.deployment_file
            saw("gpu.ami is pinned; only the launch template changed")
        with step("make deploy with orchestrator.max_tasks: 12"):
            self.project.change_setting("  max_tasks: 10 ", "  max_tasks: 12 ")
            changed = self._changed(lambda: self._tested(services, *deploy))
            same(sorted(changed), ["scalable target"], "what changed")
            saw("only the scaling target changed: 3 to 12 tasks")
        with step("make deploy with another line in the orchestrator's code"):
            self.project.change_orchestrator("# another release")
            changed = self._changed(lambda: self._tested(services, *deploy))
            expected = ["image tandem/orchestrator", "service Orchestrator", "task definition Orchestrator"]
            same(sorted(changed), expected, "what changed")
            saw("a new image, task definition and rollout of the orchestrator; nothing else changed")
        self.serving.roll_out(services)
        self._roll_back(services)

    def _tested(self, services: DeployedServices, *arguments: str) -> None:
        """Runs a command that ends with the smoke test, which connects to HAProxy in place of the domain."""
        address = services.balancer.address
        shown = self.project.ops(*arguments, "--json", "--connect-to", address, environment=services.trusted)
        tested = json.loads(shown.splitlines()[-1])
        same({one["status"] for one in tested["results"]}, {"ok"}, "results of the smoke test")
        saw(f"{tested['title']}: {', '.join(one['subject'] for one in tested['results'])}")

    def _roll_back(self, services: DeployedServices) -> None:
        """Returns to the release before, with its image, and then to the newer one again."""
        image = services.orchestrator_task().container["image"]
        for back in ("make rollback", "make rollback again"):
            with step(back):
                changed = self._changed(lambda: self._tested(services, "rollback", "--yes"))
                same(
                    sorted(changed), ["service Orchestrator", "task definition Orchestrator"], "what changed"
                )
                saw("the orchestrator's image is the other release's, which was not built again")
            self.serving.roll_out(services)
        same(services.orchestrator_task().container["image"], image, "the image")

    def rotate(self, services: DeployedServices) -> None:
        with patch.dict(os.environ, self.emulator.environment):
            account = OperatorsAccount(plan_of(self.project.directory / "tandem.yaml"))
            self.serving.rotate_engine_key(services, account)

    def fail(self, services: DeployedServices) -> None:
        with step("A release whose image cannot be built: rolls back"):
            missing = "COPY missing /app/missing\n"
            self.project.change_dockerfile("WORKDIR /app\n", f"WORKDIR /app\n{missing}")
            before = inventory(self.emulator)
            ran = self.deploy(fails=True)
            assert '"/missing"' in ran.output, ran.output[-3000:]
            saw("the CLI shows the last lines of the build's log")
            same(inventory(self.emulator), before, "what there is")
            same(self._status("tandem-serving"), "UPDATE_ROLLBACK_COMPLETE", "status of the stack")
            found(
                "an image that cannot be built",
                command="npx cdk deploy",
                report="the build's last lines",
                seconds=ran.seconds,
            )
            saw("UPDATE_ROLLBACK_COMPLETE, and everything is as it was")
            self.project.change_dockerfile(missing, "")
        with step("A release that cannot be imported: synthesis stops, since it imports the tools"):
            self.project.change_orchestrator("raise RuntimeError('a release that cannot be imported')")
            ran = self.deploy(fails=True)
            assert "a release that cannot be imported" in ran.output, ran.output[-3000:]
            saw("the orchestrator's own check reports it before anything is built")
            self.project.forget_last_line()
        with step("A release whose container does not start: the rollout stops, and users notice nothing"):
            self.project.change_orchestrator(_DOES_NOT_START)
            self.deploy()
            self.serving.roll_out(services, fails="a release that does not start")
        with step("The release after that"):
            self.project.forget_last_line()
            self.project.change_orchestrator("# a release that starts")
            self.deploy()
            same(self._status("tandem-serving"), "UPDATE_COMPLETE", "status of the stack")
            saw("UPDATE_COMPLETE")
            self.serving.roll_out(services)

    def own_tool(self, services: DeployedServices) -> None:
        self.tool.prepare()
        self.tool.release(self._changed)
        self.serving.roll_out(services)
        self.tool.call(services, services.key)

    def _make_deploy(self) -> str:
        return self.project.ops("deploy", "--yes", "--no-smoke", "--certificate", self.certificate)

    def destroy(self) -> None:
        with step("make destroy"):
            self.project.ops("destroy", "--yes")
            self.tool.forget()
            same(leftovers(self.emulator), [], "what is left")
            saw("nothing is left, except for what cdk bootstrap made")

    def _changed(self, action: Callable[[], object]) -> list[str]:
        before = inventory(self.emulator)
        action()
        after = inventory(self.emulator)
        return [name for name in {*before, *after} if before.get(name) != after.get(name)]

    def _status(self, stack: str) -> Any:
        formation = self.emulator.client("cloudformation")
        return formation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]


def rehearse(directory: Path, account: Account) -> None:
    """All steps from the first deployment to the end."""
    with account.emulator(directory / "aws") as emulator:
        print(f"AWS is an emulator at {emulator.url}; the CDK CLI and Docker are real", flush=True)
        rehearsal = Rehearsal(emulator, Project(_made(directory / "project"), emulator))
        rehearsal.first()
        with account.services(emulator) as services:
            rehearsal.serving.check(services)
            rehearsal.roles()
            rehearsal.look()
            rehearsal.change(services)
            rehearsal.rotate(services)
            rehearsal.own_tool(services)
            if services.has_standin:
                rehearsal.models.run(services)
            rehearsal.fail(services)
            rehearsal.serving.revoke_bootstrap(services)
        rehearsal.destroy()


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
        with tempfile.TemporaryDirectory(prefix="tandem-rehearsal-") as name, Account(engine) as account:
            rehearse(Path(name), account)
            rehearse_order(Path(name))
    except (AssertionError, DeploymentFailed, CommandFailed, EmulatorError, NoEngine) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the emulator and all that was deployed in it are gone.", file=sys.stderr)
        return 130
    print(f"\nThe rehearsal went through in {time.monotonic() - begun:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
