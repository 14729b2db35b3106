"""The policies of a deployment, of its roles and of its resources, with the values of their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..template import Assembly, Resource, listed, statements
from .arns import ACCOUNT, Arns
from .callers import Caller, callers
from .evaluation import Decision, Request, Statement, decide
from .expectations import expectations, managed_policy

_RESOURCE_POLICIES = {"AWS::S3::BucketPolicy": "Bucket", "AWS::SNS::TopicPolicy": "Topics"}
_DEFAULT_TOPIC_POLICY = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "sns:Publish",
    "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
}


class Policies:
    """What each role and each resource allows, and who calls."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.arns = Arns(assembly)
        self.callers = tuple(callers(assembly))

    def decide(self, caller: Caller, request: Request) -> Decision:
        """Whether AWS would allow a request of a caller.

        Raises:
            CannotEvaluate: a policy uses something that is not covered.
        """
        identity = [*self.own(caller.role), *self.managed(caller.role)] if caller.role else []
        return decide(request, identity=identity, resource=self._of_resource(request.resource))

    def principal(self, caller: Caller) -> str:
        """The caller as policies name it."""
        if caller.role:
            return self.arns.arn(caller.role)
        return expectations()[caller.kind].service or ""

    def own(self, role: Resource) -> list[Statement]:
        """The statements that the templates give a role."""
        attached = [
            policy
            for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
            for policy in self.assembly.of_kind(kind)
            if role in self.assembly.targets(policy.template, policy.get("Roles"))
        ]
        attached += [
            policy
            for policy in self.assembly.targets(role.template, role.get("ManagedPolicyArns"))
            if policy.kind == "AWS::IAM::ManagedPolicy"
        ]
        return [one for policy in (role, *attached) for one in self._resolved(policy)]

    def trust(self, role: Resource) -> list[Statement]:
        """The statements on who may assume a role."""
        resolved: list[Statement] = self.arns.resolve(
            role.template, role.get("AssumeRolePolicyDocument.Statement", [])
        )
        return resolved

    def managed(self, role: Resource) -> list[Statement]:
        """The statements of AWS's own policies that a role has."""
        documents = [managed_policy(arn) for arn in self.managed_arns(role)]
        return [one for document in documents if document for one in document]

    def managed_arns(self, role: Resource) -> list[str]:
        """AWS's own policies that a role has."""
        arns = self.arns.resolve(role.template, role.get("ManagedPolicyArns", []))
        return [arn for arn in arns if ":iam::aws:policy/" in str(arn)]

    def _of_resource(self, arn: str) -> Sequence[Statement]:
        """The statements of the policy of the resource that an ARN names."""
        arns = self.arns
        for kind, path in _RESOURCE_POLICIES.items():
            for policy in self.assembly.of_kind(kind):
                for target in self.assembly.targets(policy.template, policy.get(path)):
                    if arn == arns.arn(target) or arn.startswith(f"{arns.arn(target)}/"):
                        return self._resolved(policy)
        if arn.startswith("arn:aws:sns:"):
            return [_DEFAULT_TOPIC_POLICY]
        return [
            self._of_permission(permission)
            for permission in self.assembly.of_kind("AWS::Lambda::Permission")
            if arns.text(permission.template, permission.get("FunctionName")) == arn
        ]

    def _of_permission(self, permission: Resource) -> Statement:
        """A permission of a function as the statement that Lambda makes of it."""
        resolved = self.arns.resolve(permission.template, dict(permission.properties))
        source = resolved.get("SourceArn")
        return {
            "Effect": "Allow",
            "Principal": {"Service": resolved["Principal"]},
            "Action": resolved["Action"],
            "Condition": {"ArnLike": {"aws:SourceArn": source}} if source else {},
        }

    def _resolved(self, policy: Resource) -> list[Statement]:
        resolve = self.arns.resolve
        return [resolve(policy.template, dict(statement)) for statement in statements(policy)]


def granted(statement: Statement) -> list[tuple[str, str]]:
    """The pairs of action and resource that a statement allows."""
    if statement["Effect"] != "Allow":
        return []
    resources: list[Any] = listed(statement.get("Resource", []))
    return [(action, resource) for action in listed(statement.get("Action", [])) for resource in resources]
