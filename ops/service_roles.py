"""The service-linked roles that a deployment needs.

AWS creates them when a service is first used, and the first `CreateCluster` in an account races the creation
of its role (aws-cloudformation/cloudformation-coverage-roadmap#818). So `make deploy` creates them before the
stacks.
"""

from __future__ import annotations

from botocore.exceptions import ClientError

from .account import Account, code_of, translated

SERVICES = {
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
    "AWSServiceRoleForAutoScaling": "autoscaling.amazonaws.com",
    "AWSServiceRoleForApplicationAutoScaling_ECSService": "ecs.application-autoscaling.amazonaws.com",
    "AWSServiceRoleForElasticLoadBalancing": "elasticloadbalancing.amazonaws.com",
}
"""Role name to service principal (AWS IAM user guide, "AWS services that work with IAM")."""

SPOT = {"AWSServiceRoleForEC2Spot": "spot.amazonaws.com"}


def needed(account: Account) -> dict[str, str]:
    """The roles that this deployment uses."""
    return SERVICES | (SPOT if any(one.gpu.capacity == "spot" for one in account.deployment.entries) else {})


def missing(account: Account) -> list[str]:
    """The roles of `needed` that the account does not have yet."""
    iam = account.client("iam")
    absent = []
    for role in needed(account):
        try:
            with translated():
                iam.get_role(RoleName=role)
        except ClientError as error:
            if code_of(error) != "NoSuchEntity":
                raise
            absent.append(role)
    return absent


def create(account: Account) -> list[str]:
    """Creates the missing roles and returns their names. A role that appeared meanwhile is fine."""
    iam = account.client("iam")
    created = missing(account)
    for role in created:
        try:
            with translated():
                iam.create_service_linked_role(AWSServiceName=needed(account)[role])
        except ClientError as error:
            if "has been taken" not in str(error):
                raise
    return created
