"""Deploys, reports progress, and stops a deployment that can no longer succeed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from . import service_roles
from .account import Account, Failed, NoAccess, NotAllowed, translated
from .cdk import Cdk
from .doctor.domain import NOT_VERIFIED, VERIFY
from .doctor.running import start_failure
from .report import say

POLL_SECONDS = 5.0

# Resources worth reporting, with the minutes that each usually takes in a real account.
_SLOW = {
    "AWS::EC2::NatGateway": ("the NAT gateway", 2),
    "Custom::ContainerImage": ("an image, built in CodeBuild", 12),
    "Custom::ModelMirror": ("the model, copied from the Hub to S3 by CodeBuild", 6),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": ("the load balancer", 3),
    "AWS::AutoScaling::AutoScalingGroup": ("the group of GPU instances", 1),
    "AWS::ECS::Service": ("a service, waiting for healthy tasks", 10),
    "AWS::CertificateManager::Certificate": ("the certificate, waiting for its DNS records", 5),
    "AWS::CloudFront::Distribution": ("the CloudFront distribution", 8),
}
_BUSY = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
_GIVE_UP_AFTER = 3
"""Consecutive reports by ECS that a service cannot start; a first instance needs some minutes."""


@dataclass
class Progress:
    """What has been reported so far, so that nothing is reported twice."""

    account: Account
    start: float = field(default_factory=time.time)
    reported: set[str] = field(default_factory=set)
    reasons: dict[str, int] = field(default_factory=dict)
    reason: str | None = None

    def look(self) -> None:
        """Checks CloudFormation and ECS once."""
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
            return  # the stack does not exist yet
        for event in reversed(events):
            if event["Timestamp"].timestamp() >= self.start:
                self._report_event(name, event)

    def _report_event(self, stack: str, event: Any) -> None:
        kind, status = event["ResourceType"], event["ResourceStatus"]
        if event["EventId"] in self.reported:
            return
        self.reported.add(event["EventId"])
        if status.endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "").lower():
            reason = event.get("ResourceStatusReason", status)
            say(f"  ✗ {stack}: {event['LogicalResourceId']}: {reason}")
            if NOT_VERIFIED in reason:
                say(f"  → {VERIFY}")
        elif kind in _SLOW and status in _BUSY:
            what, minutes = _SLOW[kind]
            say(f"  … {stack}: {what} ({event['LogicalResourceId']}), usually {minutes} min")
        elif kind in _SLOW and status.endswith("_COMPLETE") and "ROLLBACK" not in status:
            say(f"  ✓ {stack}: {_SLOW[kind][0]}")

    def _look_at_services(self) -> None:
        """Reports ECS events, and notes a service that ECS repeatedly reports as unable to start."""
        for service in _services(self.account):
            messages = [
                event["message"]
                for event in service.get("events", [])
                if event["createdAt"].timestamp() >= self.start
            ]
            for message in reversed(messages):
                if message not in self.reported:
                    self.reported.add(message)
                    say(f"  ECS: {message}")
            why = start_failure(messages[:1])
            name = service["serviceName"]
            self.reasons[name] = self.reasons.get(name, 0) + 1 if why else 0
            failed = sum(
                one.get("failedTasks", 0) for one in service["deployments"] if one["status"] == "PRIMARY"
            )
            if why and self.reasons[name] >= _GIVE_UP_AFTER and failed >= _GIVE_UP_AFTER:
                self.reason = f"{name} cannot start: {why}. ECS says: {messages[0]}"


def _services(account: Account) -> list[Any]:
    """Returns the services that the serving stack has created so far."""
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
    """Runs `cdk deploy --all` and watches it.

    Raises:
        Failed: The deployment failed, or was cancelled because it could not succeed.
    """
    foundation, serving = account.stack_names
    _create_service_roles(account)
    arguments = ["deploy", "--all", "--require-approval", "never", "--progress", "events"]
    if certificate and account.deployment.ingress.takes_certificate:
        arguments += ["--parameters", f"{foundation}:CertificateArn={certificate}"]
    cdk = Cdk(arguments, deployment_file=deployment_file, region=account.region)
    reader = threading.Thread(target=cdk.read, name="output of the CDK", daemon=True)
    reader.start()
    progress = Progress(account)
    say(f"Deploying {foundation} and {serving} to {account.region}")
    try:
        while reader.is_alive():
            reader.join(POLL_SECONDS)
            look(progress)
            if progress.reason:
                _give_up(account, cdk)
                raise Failed(f"{progress.reason}\nThe deployment was cancelled. Run make doctor for details.")
    except KeyboardInterrupt:
        cdk.stop()
        raise
    cdk.finish("the deployment")


def _create_service_roles(account: Account) -> None:
    """Creates the missing service-linked roles; without permission, AWS may still create them itself."""
    try:
        created = service_roles.create(account)
    except NotAllowed as error:
        say(f"  ? the service-linked roles were not checked: {error}")
        return
    if created:
        say(f"  ✓ created {', '.join(created)}")


def look(progress: Progress) -> None:
    """Reports progress; if it cannot be read, reports that once."""
    try:
        progress.look()
    except (NoAccess, NotAllowed, BotoCoreError) as error:
        note = f"cannot read the progress: {error}"
        if note not in progress.reported:
            progress.reported.add(note)
            say(f"  ? {note}; the deployment continues")


def _give_up(account: Account, cdk: Cdk) -> None:
    """Stops the CLI and CloudFormation: an update is rolled back, a first creation is deleted."""
    cdk.stop()
    serving = account.stack_names[1]
    stack = account.stack(serving)
    formation = account.client("cloudformation")
    with translated():
        if stack and stack.status == "UPDATE_IN_PROGRESS":
            formation.cancel_update_stack(StackName=serving)
        elif stack and stack.status == "CREATE_IN_PROGRESS":
            formation.delete_stack(StackName=serving)
