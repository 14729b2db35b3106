"""Exceptions to the checks of the templates, written beside the resource that they are about."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from constructs import IConstruct


def accept(construct: IConstruct, *rules: str, reason: str) -> None:
    """Accepts findings of cdk-nag (`AwsSolutions-…`) or checkov (`CKV…`) on one construct.

    Args:
        construct: the L2 construct or the resource that the finding names.
        rules: ids of the rules; of cdk-nag's rules with several findings also `Id[finding]`.
        reason: why the finding is no fault here.
    """
    for rule in rules:
        if rule.startswith("CKV"):
            resource = construct.node.default_child or construct
            if not isinstance(resource, cdk.CfnResource):
                raise TypeError(f"{construct.node.path} is no resource, to which {rule} could be accepted")
            checkov: dict[str, Any] = resource.get_metadata("checkov") or {"skip": []}
            checkov["skip"] = [*checkov["skip"], {"id": rule, "comment": reason}]
            resource.add_metadata("checkov", checkov)
        else:
            cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=rule, reason=reason))
