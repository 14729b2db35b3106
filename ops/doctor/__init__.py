"""Looks at the account: before a deployment for what would make it fail, after it for how it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from ops.account import Account, NoAccess, NotAllowed, translated
from ops.report import Mark, Result

from . import domain, identity, network, quotas, running, stacks


class Check(NamedTuple):
    """Something to look at. It reads, and never changes anything."""

    subject: str
    look: Callable[[Account], list[Result]]


BEFORE = (
    Check("deployment file", identity.look_at_file),
    Check("credentials", identity.look_at_identity),
    Check("CDK bootstrap", identity.look_at_bootstrap),
    Check("stacks", stacks.look_at_stacks),
    Check("names", stacks.look_at_names),
    Check("GPU quota", quotas.look_at_gpu_quota),
    Check("Fargate quota", quotas.look_at_fargate_quota),
    Check("network quotas", quotas.look_at_network_quotas),
    Check("CodeBuild quota", quotas.look_at_build_quota),
    Check("instance type", network.look_at_offerings),
    Check("existing VPC", network.look_at_existing_vpc),
    Check("certificate", domain.look_at_certificate),
    Check("hosted zone", domain.look_at_zone),
    Check("secrets", identity.look_at_secrets),
)
AFTER = (
    Check("credentials", identity.look_at_identity),
    Check("stacks", stacks.look_at_stacks),
    Check("services", running.look_at_services),
    Check("stopped tasks", running.look_at_stopped_tasks),
    Check("load balancer", running.look_at_targets),
    Check("GPU instances", running.look_at_capacity),
    Check("Cloud Map", running.look_at_cloud_map),
)


def doctor(account: Account, *, certificate: str | None = None, deploying: bool = False) -> list[Result]:
    """All results: AFTER where both stacks are up, else BEFORE.

    With `deploying` always BEFORE: a release is how services that are not well are mended.

    Raises:
        NoAccess: AWS cannot be asked at all.
    """
    account.certificate = certificate or account.deployment.ingress.certificate_arn
    try:
        deployed = not deploying and stacks.are_up(account)
    except NotAllowed:
        deployed = False
    return run(AFTER if deployed else BEFORE, account)


def run(checks: Sequence[Check], account: Account) -> list[Result]:
    """Runs checks side by side; one that may not look, or that AWS refuses, stops no other.

    Raises:
        NoAccess: AWS cannot be asked at all.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [
            result for results in pool.map(lambda check: _run(check, account), checks) for result in results
        ]


def _run(check: Check, account: Account) -> list[Result]:
    try:
        with translated():
            return check.look(account)
    except NotAllowed as error:
        fix = f"allow {error.action} for whoever runs this, or ask who may"
        return [Result(Mark.UNKNOWN, check.subject, f"not looked at: {error}", fix)]
    except NoAccess:
        raise
    except (ClientError, BotoCoreError) as error:
        return [Result(Mark.UNKNOWN, check.subject, f"not looked at: {error}")]
