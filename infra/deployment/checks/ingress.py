"""Rules on the load balancer and CloudFront."""

from __future__ import annotations

from infra.deployment.file import CLOUDFRONT_REGION
from infra.deployment.plan import Plan

from .rule import Candidates, Changes, Found, Severity, rule

MARGIN_SECONDS = 30
"""Difference between timeouts that depend on each other."""

CLOUDFRONT_RESPONSE_SECONDS = 120
"""CloudFront's longest wait for an answer's next byte, without a higher quota."""

EVERYWHERE = "0.0.0.0/0"

_WITHOUT_CLOUDFRONT: Changes = {"ingress.cloudfront": False}


def _longer_than_requests(setting: str) -> tuple[Candidates, Candidates]:
    """Fixes for a timeout of the ingress that must outlast requests: raise it, or lower theirs."""
    return (
        lambda plan: [
            {f"ingress.{setting}": plan.deployment.orchestrator.request_timeout_seconds + MARGIN_SECONDS}
        ],
        lambda plan: [
            {
                "orchestrator.request_timeout_seconds": getattr(plan.deployment.ingress, setting)
                - MARGIN_SECONDS
            }
        ],
    )


@rule("deregistration-delay", Severity.ERROR, *_longer_than_requests("deregistration_delay_seconds"))
def deregistration_delay(plan: Plan) -> Found[str]:
    """A task is stopped only after its requests had their full time."""
    delay = plan.deployment.ingress.deregistration_delay_seconds
    needed = plan.deployment.orchestrator.request_timeout_seconds + MARGIN_SECONDS
    if delay >= needed:
        return
    yield (
        "ingress.deregistration_delay_seconds",
        f"{delay} s cuts off requests, which may take orchestrator.request_timeout_seconds "
        f"({plan.deployment.orchestrator.request_timeout_seconds} s); it must be {MARGIN_SECONDS} s longer",
    )


@rule("idle-timeout", Severity.ERROR, *_longer_than_requests("idle_timeout_seconds"))
def idle_timeout(plan: Plan) -> Found[str]:
    """The load balancer must wait for answers that are not streamed, which are silent until complete."""
    idle, request = (
        plan.deployment.ingress.idle_timeout_seconds,
        plan.deployment.orchestrator.request_timeout_seconds,
    )
    if idle >= request + MARGIN_SECONDS:
        return
    yield (
        "ingress.idle_timeout_seconds",
        f"the load balancer closes idle connections after {idle} s, but an answer that is not streamed may "
        f"take orchestrator.request_timeout_seconds ({request} s); it must be {MARGIN_SECONDS} s longer",
    )


@rule("public-subnets", Severity.ERROR, lambda _: [{"ingress.scheme": "internal"}])
def public_subnets(plan: Plan) -> Found[str]:
    """A public load balancer needs public subnets."""
    existing, ingress = plan.deployment.network.existing_vpc, plan.deployment.ingress
    if existing is None or not existing.known or existing.public_subnet_ids:
        return
    if ingress.scheme == "internal" or ingress.cloudfront:
        return
    yield ("ingress.scheme", "a public load balancer needs network.existing_vpc.public_subnet_ids")


@rule(
    "cloudfront-scheme",
    Severity.ERROR,
    lambda _: [{"ingress.scheme": "public"}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_scheme(plan: Plan) -> Found[str]:
    """CloudFront is public, so the deployment cannot be internal."""
    ingress = plan.deployment.ingress
    if not ingress.cloudfront or ingress.scheme == "public":
        return
    yield ("ingress.cloudfront", "CloudFront would publish what ingress.scheme keeps internal")


@rule(
    "certificate-domain",
    Severity.ERROR,
    lambda _: [{"ingress.certificate_arn": None, "ingress.cloudfront": True}],
)
def certificate_domain(plan: Plan) -> Found[str]:
    """No certificate can cover the load balancer's own name, so a certificate needs a domain."""
    ingress = plan.deployment.ingress
    if ingress.certificate_arn is None or ingress.domain:
        return
    yield (
        "ingress.certificate_arn",
        "no certificate covers the load balancer's own name; set ingress.domain to a name that "
        "this certificate covers",
    )


@rule("jwt-https", Severity.ERROR, lambda _: [{"ingress.jwt": None}])
def jwt_https(plan: Plan) -> Found[str]:
    """The load balancer verifies tokens only where it speaks HTTPS itself."""
    ingress = plan.deployment.ingress
    if ingress.jwt is None or not ingress.cloudfront:
        return
    yield (
        "ingress.jwt",
        "cannot be used with ingress.cloudfront: behind it the load balancer speaks HTTP, and AWS verifies "
        "tokens on HTTPS listeners only; use ingress.domain",
    )


@rule("cloudfront-domain", Severity.ERROR, lambda _: [_WITHOUT_CLOUDFRONT])
def cloudfront_domain(plan: Plan) -> Found[str]:
    """CloudFront serves under its own name and certificate."""
    ingress = plan.deployment.ingress
    if not ingress.cloudfront or not (ingress.certificate_arn or ingress.domain):
        return
    given = "certificate_arn" if ingress.certificate_arn else "domain"
    yield (
        f"ingress.{given}",
        "cannot be used with ingress.cloudfront, which serves under its own name and certificate",
    )


@rule(
    "cloudfront-cidrs",
    Severity.ERROR,
    lambda _: [{"ingress.allowed_cidrs": (EVERYWHERE,)}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_cidrs(plan: Plan) -> Found[str]:
    """Behind CloudFront the load balancer sees CloudFront's addresses instead of the clients'."""
    ingress = plan.deployment.ingress
    if not ingress.cloudfront or EVERYWHERE in ingress.allowed_cidrs:
        return
    yield (
        "ingress.allowed_cidrs",
        "cannot be enforced with ingress.cloudfront, which hides clients' addresses",
    )


@rule(
    "cloudfront-timeout",
    Severity.WARNING,
    lambda _: [{"orchestrator.request_timeout_seconds": CLOUDFRONT_RESPONSE_SECONDS}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_timeout(plan: Plan) -> Found[str]:
    """CloudFront's timeout limits answers that are not streamed, since they have no heartbeats."""
    request = plan.deployment.orchestrator.request_timeout_seconds
    if not plan.deployment.ingress.cloudfront or request <= CLOUDFRONT_RESPONSE_SECONDS:
        return
    yield (
        "ingress.cloudfront",
        f"CloudFront cuts off answers that are not streamed after {CLOUDFRONT_RESPONSE_SECONDS} s, before "
        f"orchestrator.request_timeout_seconds ({request} s)",
    )


def _lacks_region(plan: Plan) -> bool:
    return plan.deployment.ingress.cloudfront and plan.deployment.region != CLOUDFRONT_REGION


_WITH_REGION: Changes = {"region": CLOUDFRONT_REGION}


@rule(
    "cloudfront-firewall",
    Severity.ERROR,
    lambda _: [_WITH_REGION],
    lambda _: [{"ingress.waf": False}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_firewall(plan: Plan) -> Found[str]:
    """A firewall of CloudFront can only be created in us-east-1."""
    if not plan.deployment.ingress.waf or not _lacks_region(plan):
        return
    yield (
        "ingress.waf",
        f"AWS creates firewalls of CloudFront only in {CLOUDFRONT_REGION}, but region is "
        f"{plan.deployment.region or 'not set'}",
    )


@rule(
    "cloudfront-unlimited",
    Severity.WARNING,
    lambda _: [_WITH_REGION],
    lambda _: [{"ingress.waf": False}],
)
def cloudfront_unlimited(plan: Plan) -> Found[str]:
    """Without a firewall in front of CloudFront, one client may use up the orchestrators' time."""
    if plan.deployment.ingress.waf is not None or not _lacks_region(plan):
        return
    yield (
        "ingress.waf",
        f"there is no request limit per client address: AWS creates firewalls of CloudFront only in "
        f"{CLOUDFRONT_REGION}, but region is {plan.deployment.region or 'not set'}; false accepts that",
    )


RULES = (
    deregistration_delay,
    idle_timeout,
    public_subnets,
    certificate_domain,
    cloudfront_scheme,
    jwt_https,
    cloudfront_domain,
    cloudfront_cidrs,
    cloudfront_timeout,
    cloudfront_firewall,
    cloudfront_unlimited,
)
