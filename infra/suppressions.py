"""Accepted findings of template checkers, recorded next to the resource that they concern."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import IConstruct


def accept(construct: IConstruct, *rules: str, reason: str) -> None:
    """Accepts findings of cdk-nag (`AwsSolutions-…`) or checkov (`CKV…`) on one construct.

    Args:
        construct: The L2 construct or the resource of the finding.
        rules: IDs of the rules; for cdk-nag rules with several findings also `Id[finding]`.
        reason: Why the finding is not a problem here.
    """
    for rule in rules:
        if rule.startswith("CKV"):
            resource = construct.node.default_child or construct
            if not isinstance(resource, cdk.CfnResource):
                raise TypeError(
                    f"{construct.node.path} is not a resource, so {rule} cannot be accepted for it"
                )
            checkov: dict[str, Any] = resource.get_metadata("checkov") or {"skip": []}
            checkov["skip"] = [*checkov["skip"], {"id": rule, "comment": reason}]
            resource.add_metadata("checkov", checkov)
        else:
            cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=rule, reason=reason))


def accept_emptying(scope: IConstruct) -> None:
    """Accepts the CDK's function that empties the buckets of a stack when they are deleted."""
    provider = cdk.Stack.of(scope).node.find_child("Custom::S3AutoDeleteObjectsCustomResourceProvider")
    accept(
        provider.node.find_child("Handler"),
        "CKV_AWS_115",
        "CKV_AWS_116",
        "CKV_AWS_117",
        reason="The CDK's function, which CloudFormation invokes once, to empty the bucket.",
    )


def accept_objects(role: IConstruct, bucket: s3.IBucket, objects: str) -> None:
    """Accepts that a role may use all objects below a prefix of a bucket: their names are not known."""
    arn = cdk.Stack.of(role).resolve(bucket.arn_for_objects(objects))
    text = "".join(
        part if isinstance(part, str) else f"<{part['Ref']}>"
        for part in (arn["Fn::Join"][1] if isinstance(arn, dict) else [arn])
    )
    accept(role, f"AwsSolutions-IAM5[Resource::{text}]", reason=f"The names below {objects} are not known.")


def accept_registry_login(role: IConstruct) -> None:
    """Accepts that a role which pulls or pushes images may log in to the registry."""
    accept(
        role,
        "AwsSolutions-IAM5[Resource::*]",
        reason="ecr:GetAuthorizationToken applies to the account's registry and has no resources.",
    )
