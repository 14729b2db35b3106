"""The service-linked roles: found missing, created once, and a race with AWS is not an error."""

from __future__ import annotations

from ops import service_roles
from tests.ops.scripted_aws import Refused, account, roles_without


def test_only_missing_roles_are_created() -> None:
    one = account(
        {
            "iam.GetRole": roles_without("AWSServiceRoleForECS"),
            "iam.CreateServiceLinkedRole": {},
        }
    )
    assert service_roles.create(one) == ["AWSServiceRoleForECS"]
    created = [params for name, params in one.aws.calls if name == "iam.CreateServiceLinkedRole"]
    assert created == [{"AWSServiceName": "ecs.amazonaws.com"}]


def test_role_that_appears_meanwhile_is_not_an_error() -> None:
    taken = Refused("InvalidInput", "Service role name AWSServiceRoleForECS has been taken in this account")
    one = account(
        {"iam.GetRole": roles_without("AWSServiceRoleForECS"), "iam.CreateServiceLinkedRole": taken}
    )
    assert service_roles.create(one) == ["AWSServiceRoleForECS"]


def test_spot_instances_need_a_role_of_their_own() -> None:
    absent = roles_without("AWSServiceRoleForEC2Spot")
    assert service_roles.missing(account({"iam.GetRole": absent})) == []
    spot = account({"iam.GetRole": absent}, gpu__capacity="spot")
    assert service_roles.missing(spot) == ["AWSServiceRoleForEC2Spot"]
