"""Rules on the firewall in front of the load balancer or CloudFront."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.deployment.checks.rule import Found, rule

from .template import Assembly, Resource

_ACL, _ASSOCIATION = "AWS::WAFv2::WebACL", "AWS::WAFv2::WebACLAssociation"
_BALANCER, _DISTRIBUTION = "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::CloudFront::Distribution"


@rule("T-firewall")
def firewall(assembly: Assembly) -> Found[Resource]:
    """WAF rules on content only count; they would block prompts about attacks."""
    for acl in assembly.of_kind(_ACL):
        for entry in acl.get("Rules", []):
            managed = entry["Statement"].get("ManagedRuleGroupStatement")
            if managed and "IpReputation" not in managed["Name"] and "Count" not in entry["OverrideAction"]:
                yield (acl, f"{managed['Name']} must count: OverrideAction: Count")


@rule("T-request-limit")
def request_limit(assembly: Assembly) -> Found[Resource]:
    """The request limit applies to the address that connects, and answers with our own JSON and a 429."""
    for acl in assembly.of_kind(_ACL):
        limits = list(_limits(acl))
        if not limits:
            yield (acl, "it must limit the requests per client address")
        for entry, statement in limits:
            wanted = assembly.plan.deployment.ingress.waf_requests_per_5_minutes
            if (statement.get("Limit"), statement.get("EvaluationWindowSec")) != (wanted, 300):
                yield (
                    acl,
                    f"its limit must be {wanted} requests in 300 s (ingress.waf_requests_per_5_minutes)",
                )
            if statement.get("AggregateKeyType") != "IP":
                yield (acl, "it must count by IP: a client chooses what is in X-Forwarded-For")
            problem = _problem_of(acl, entry.get("Action", {}))
            if problem:
                yield (acl, problem)


def _limits(acl: Resource) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for entry in acl.get("Rules", []):
        if statement := entry["Statement"].get("RateBasedStatement"):
            yield entry, statement


def _problem_of(acl: Resource, action: Mapping[str, Any]) -> str | None:
    response = action.get("Block", {}).get("CustomResponse", {})
    if response.get("ResponseCode") != 429:
        return "beyond the limit it must block with a 429, which clients retry later"
    body = acl.get("CustomResponseBodies", {}).get(response.get("CustomResponseBodyKey"), {})
    if body.get("ContentType") != "APPLICATION_JSON" or "error" not in json.loads(body.get("Content", "{}")):
        return "beyond the limit it must answer with an error in JSON, as OpenAI's clients expect"
    return None


@rule("T-firewall-in-front")
def in_front(assembly: Assembly) -> Found[Resource]:
    """The firewall stands where it sees the addresses of clients: in front of CloudFront, if there is one."""
    deployment = assembly.plan.deployment
    fronts = assembly.of_kind(_DISTRIBUTION if deployment.ingress.cloudfront else _BALANCER)
    scope = "CLOUDFRONT" if deployment.ingress.cloudfront else "REGIONAL"
    for acl in assembly.of_kind(_ACL):
        if acl.get("Scope") != scope:
            yield (acl, f"its Scope must be {scope}")
    for front in fronts if deployment.has_firewall else ():
        if not _acls_of(assembly, front):
            yield (front, "no web ACL is in front of it, but ingress.waf asks for one")


def _acls_of(assembly: Assembly, front: Resource) -> list[Resource]:
    if front.kind == _DISTRIBUTION:
        found = [assembly.follow(front, "DistributionConfig.WebACLId")]
    else:
        found = [
            assembly.follow(one, "WebACLArn")
            for one in assembly.of_kind(_ASSOCIATION)
            if assembly.follow(one, "ResourceArn") == front
        ]
    return [acl for acl in found if acl is not None and acl.kind == _ACL]


RULES = (
    firewall,
    request_limit,
    in_front,
)
