"""Deploys, tells what goes on while it takes its time, and stops where it cannot succeed any more."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .account import Account, Failed, NoAccess, NotAllowed, translated
from .cdk import Cdk
from .doctor.running import hopeless
from .report import tell

POLL_SECONDS = 5.0

# What is worth a line while it is made, and the minutes it usually takes in a real account.
_SLOW = {
    "AWS::EC2::NatGateway": ("the NAT gateway", 2),
    "Custom::ContainerImage": ("an image, in CodeBuild", 12),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": ("the load balancer", 3),
    "AWS::AutoScaling::AutoScalingGroup": ("the GPU instances' group", 1),
    "AWS::ECS::Service": ("a service, until its tasks are healthy", 10),
    "AWS::CertificateManager::Certificate": ("the certificate, until its DNS records are seen", 5),
    "AWS::CloudFront::Distribution": ("the CloudFront distribution", 8),
}
_BUSY = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
_HOPELESS_AFTER = 3
"""Times in a row that ECS has to show that a service cannot start: a first instance needs some minutes."""


@dataclass
class Progress:
    """What has been told, so that nothing is told twice."""

    account: Account
    started: float = field(default_factory=time.time)
    seen: set[str] = field(default_factory=set)
    reasons: dict[str, int] = field(default_factory=dict)
    reason: str | None = None

    def look(self) -> None:
        """One look at CloudFormation and ECS."""
        for name in self.account.stack_names:
            self._look_at_stack(name)
        self._look_at_services()

    def _look_at_stack(self, name: str) -> None:
        try:
            with translated():
                events = self.account.client("cloudformation").describe_stack_events(StackName=name)[
                    "StackEvents"
                ]
        except ClientError:
            return  # not there yet
        for event in reversed(events):
            if event["Timestamp"].timestamp() >= self.started:
                self._tell_event(name, event)

    def _tell_event(self, stack: str, event: Any) -> None:
        kind, status = event["ResourceType"], event["ResourceStatus"]
        if event["EventId"] in self.seen:
            return
        self.seen.add(event["EventId"])
        if status.endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "").lower():
            tell(f"  ✗ {stack}: {event['LogicalResourceId']}: {event.get('ResourceStatusReason', status)}")
        elif kind in _SLOW and status in _BUSY:
            what, minutes = _SLOW[kind]
            tell(f"  … {stack}: {what} ({event['LogicalResourceId']}), usually {minutes} min")
        elif kind in _SLOW and status.endswith("_COMPLETE") and "ROLLBACK" not in status:
            tell(f"  ✓ {stack}: {_SLOW[kind][0]}")

    def _look_at_services(self) -> None:
        """What ECS says, and whether it has said too often that a service cannot start."""
        for service in _services(self.account):
            messages = [
                event["message"]
                for event in service.get("events", [])
                if event["createdAt"].timestamp() >= self.started
            ]
            for message in reversed(messages):
                if message not in self.seen:
                    self.seen.add(message)
                    tell(f"  ECS: {message}")
            why = hopeless(messages[:1])
            name = service["serviceName"]
            self.reasons[name] = self.reasons.get(name, 0) + 1 if why else 0
            failed = sum(
                one.get("failedTasks", 0) for one in service["deployments"] if one["status"] == "PRIMARY"
            )
            if why and self.reasons[name] >= _HOPELESS_AFTER and failed >= _HOPELESS_AFTER:
                self.reason = f"{name} cannot start: {why}. ECS says: {messages[0]}"


def _services(account: Account) -> list[Any]:
    """The services that the second stack has made so far."""
    serving = account.stack_names[1]
    try:
        with translated():
            found = account.client("cloudformation").describe_stack_resources(StackName=serving)[
                "StackResources"
            ]
            arns = [
                one["PhysicalResourceId"]
                for one in found
                if one["ResourceType"] == "AWS::ECS::Service" and one.get("PhysicalResourceId")
            ]
            clusters = [
                one.get("PhysicalResourceId") for one in found if one["ResourceType"] == "AWS::ECS::Cluster"
            ]
            if not arns or not clusters[0]:
                return []
            described = account.client("ecs").describe_services(cluster=clusters[0], services=arns)
    except ClientError:
        return []
    services: list[Any] = described["services"]
    return services


def deploy(account: Account, *, deployment_file: Path, certificate: str | None) -> None:
    """Runs `cdk deploy --all`, and watches.

    Raises:
        Failed: the deployment failed, or was ended since it could not succeed.
    """
    foundation, serving = account.stack_names
    arguments = ["deploy", "--all", "--require-approval", "never", "--progress", "events"]
    if certificate and not account.deployment.ingress.certificate_arn:
        arguments += ["--parameters", f"{foundation}:CertificateArn={certificate}"]
    cdk = Cdk(account, arguments, deployment_file=deployment_file)
    reader = threading.Thread(target=cdk.read, name="output of the CDK", daemon=True)
    reader.start()
    progress = Progress(account)
    tell(f"Deploying {foundation} and {serving} to {account.region}")
    try:
        while reader.is_alive():
            reader.join(POLL_SECONDS)
            _look(progress)
            if progress.reason:
                _give_up(account, cdk)
                raise Failed(f"{progress.reason}\nThe deployment was cancelled; make doctor tells more.")
    except KeyboardInterrupt:
        cdk.stop()
        raise
    cdk.finish("the deployment")


def _look(progress: Progress) -> None:
    try:
        progress.look()
    except (NoAccess, NotAllowed, BotoCoreError) as error:
        note = f"progress cannot be read: {error}"
        if note not in progress.seen:
            progress.seen.add(note)
            tell(f"  ? {note}; the deployment goes on")


def _give_up(account: Account, cdk: Cdk) -> None:
    """Ends the CLI, and what CloudFormation does: an update is taken back, a first creation is deleted."""
    cdk.stop()
    serving = account.stack_names[1]
    stack = account.stack(serving)
    formation = account.client("cloudformation")
    with translated():
        if stack and stack.status == "UPDATE_IN_PROGRESS":
            formation.cancel_update_stack(StackName=serving)
        elif stack and stack.status == "CREATE_IN_PROGRESS":
            formation.delete_stack(StackName=serving)
