"""Checks the account: before a deployment, whether it would succeed; afterwards, how it is doing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from ops.account import Account, NoAccess, NotAllowed, Unreachable, translated
from ops.report import Result, Status

from . import adapters, domain, engine_start, identity, machine_image, network, quotas, running, stacks, tools


class Check(NamedTuple):
    """A check. It only reads and never changes anything."""

    subject: str
    run: Callable[[Account], list[Result]]


BEFORE = (
    Check("deployment file", identity.check_file),
    Check("tools", tools.check_tools),
    Check("credentials", identity.check_identity),
    Check("CDK bootstrap", identity.check_bootstrap),
    Check("stacks", stacks.check_stacks),
    Check("names", stacks.check_names),
    Check("GPU quota", quotas.check_gpu_quota),
    Check("Fargate quota", quotas.check_fargate_quota),
    Check("network quotas", quotas.check_network_quotas),
    Check("CodeBuild quota", quotas.check_build_quota),
    Check("zones", network.check_zones),
    Check("instance type", network.check_offerings),
    Check("machine image", machine_image.check_machine_image),
    Check("existing VPC", network.check_existing_vpc),
    Check("tool connections", network.check_tool_connections),
    Check("certificate", domain.check_certificate),
    Check("hosted zone", domain.check_zone),
    Check("CloudFront", domain.check_cloudfront),
    Check("secrets", identity.check_secrets),
    Check("adapters", adapters.check_adapters),
    Check("permissions", identity.check_policies),
    Check("service roles", identity.check_service_roles),
)
AFTER = (
    Check("deployment file", identity.check_file),
    Check("tools", tools.check_tools),
    Check("secrets", identity.check_secrets),
    Check("adapters", adapters.check_adapters),
    Check("permissions", identity.check_policies),
    Check("credentials", identity.check_identity),
    Check("stacks", stacks.check_stacks),
    Check("machine image", machine_image.check_machine_image),
    Check("services", running.check_services),
    Check("engine start", engine_start.check_engine_start),
    Check("stopped tasks", running.check_stopped_tasks),
    Check("load balancer", running.check_targets),
    Check("DNS", domain.check_record),
    Check("GPU instances", running.check_capacity),
    Check("Cloud Map", running.check_cloud_map),
)


def doctor(account: Account, *, certificate: str | None = None, deploying: bool = False) -> list[Result]:
    """Runs the AFTER checks if both stacks are up, otherwise the BEFORE checks.

    With `deploying`, always runs the BEFORE checks, since a release may fix unhealthy services.

    Raises:
        NoAccess: AWS cannot be called.
    """
    account.reach()
    account.certificate = certificate or account.deployment.ingress.certificate_arn
    try:
        deployed = not deploying and stacks.are_up(account)
    except NotAllowed:
        deployed = False
    return run(AFTER if deployed else BEFORE, account)


def run(checks: Sequence[Check], account: Account) -> list[Result]:
    """Runs checks in parallel. A missing permission, a silent service or an error does not stop the others.

    Raises:
        NoAccess: AWS rejects the credentials.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [
            result for results in pool.map(lambda check: _run(check, account), checks) for result in results
        ]


def _run(check: Check, account: Account) -> list[Result]:
    try:
        with translated():
            return check.run(account)
    except NotAllowed as error:
        fix = f"allow {error.action} for these credentials, or ask someone who has the permission"
        return [Result(Status.UNKNOWN, check.subject, f"not checked: {error}", fix)]
    except Unreachable as error:
        return [Result(Status.UNKNOWN, check.subject, f"not checked: {error}")]
    except NoAccess:
        raise
    except (ClientError, BotoCoreError) as error:
        return [Result(Status.UNKNOWN, check.subject, f"not checked: {error}")]
