"""The policies of a deployment, of its roles and of its resources, with the values of their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.deployment.tool_settings import Tools, ToolStatement

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

    def decide(self, caller: Caller, request: Request, *, with_declared: bool = True) -> Decision:
        """Whether AWS would allow a request of a caller; with or without what the file declares for tools.

        Raises:
            CannotEvaluate: a policy uses something that is not covered.
        """
        identity = [*self.own(caller.role), *self.managed(caller.role)] if caller.role else []
        if not with_declared and caller.role:
            identity = [one for one in identity if one not in self.declared(caller.role)]
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

    def declared(self, role: Resource) -> list[Statement]:
        """The statements of a role that the deployment file declares for the tools, which act with it."""
        if not self.is_of_tools(role):
            return []
        wanted = [_terms(statement) for statement in self.tools.statements]
        return [one for one in self.own(role) if _granted_terms(one) in wanted]

    def missing(self, role: Resource) -> list[str]:
        """What the deployment file declares for the tools and the role lacks."""
        if not self.is_of_tools(role):
            return []
        has = [_granted_terms(one) for one in self.own(role)]
        lacking = [
            f"tools.statements.{number}"
            for number, statement in enumerate(self.tools.statements)
            if _terms(statement) not in has
        ]
        arns = self.all_managed_arns(role)
        return lacking + [arn for arn in self.tools.policy_arns if arn not in arns]

    def is_of_tools(self, role: Resource) -> bool:
        """Whether tools act with a role."""
        return any(one.role == role and one.kind == "orchestrator_task" for one in self.callers)

    @property
    def tools(self) -> Tools:
        """What the deployment file says of tools."""
        return self.assembly.plan.deployment.tools

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
        return [arn for arn in self.all_managed_arns(role) if ":iam::aws:policy/" in arn]

    def all_managed_arns(self, role: Resource) -> list[str]:
        """Every policy that a role has by its ARN, except for those of the templates."""
        given = [
            arn
            for arn in role.get("ManagedPolicyArns", [])
            if self.assembly.target(role.template, arn) is None
        ]
        return [str(arn) for arn in self.arns.resolve(role.template, given)]

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


def _terms(statement: ToolStatement) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(statement.actions), frozenset(statement.resources)


def _granted_terms(statement: Statement) -> tuple[frozenset[str], frozenset[str]] | None:
    """The actions and resources of a statement that allows them and says nothing else."""
    if statement["Effect"] != "Allow" or {*statement} - {"Effect", "Action", "Resource", "Sid"}:
        return None
    return frozenset(listed(statement["Action"])), frozenset(map(str, listed(statement["Resource"])))


def granted(statement: Statement) -> list[tuple[str, str]]:
    """The pairs of action and resource that a statement allows."""
    if statement["Effect"] != "Allow":
        return []
    resources: list[Any] = listed(statement.get("Resource", []))
    return [(action, resource) for action in listed(statement.get("Action", [])) for resource in resources]
