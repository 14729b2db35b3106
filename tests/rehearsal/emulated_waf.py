"""Associations of web ACLs with load balancers, which the emulator's CloudFormation lacks."""

from __future__ import annotations

from typing import Any

import ministack.services.alb as alb
import ministack.services.waf as waf

from tests.rehearsal.emulated_builds import answered

Properties = dict[str, Any]


def associate(logical_id: str, properties: Properties, _stack: str) -> Any:
    resource = properties["ResourceArn"]
    if resource not in alb._lbs:
        raise ValueError(f"there is no load balancer {resource}")
    answered(waf._associate_web_acl(properties))
    return f"{resource}|{logical_id}", {}


def dissociate(_physical_id: str, properties: Properties) -> None:
    answered(waf._disassociate_web_acl(properties))
