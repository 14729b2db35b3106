"""HTTPS without a domain: CloudFront in front of an internal load balancer."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from constructs import Construct

from infra.suppressions import accept

from .waf import Firewall

RESPONSE_TIMEOUT_SECONDS = 120
"""Idle time after which CloudFront gives up on an answer: the maximum without a higher quota."""


class CloudFront(Construct):
    """A distribution that forwards everything and caches nothing. `name` is its host name."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        load_balancer: elbv2.ApplicationLoadBalancer,
        firewall: Firewall | None,
    ) -> None:
        super().__init__(scope, construct_id)
        origin = origins.VpcOrigin.with_application_load_balancer(
            load_balancer,
            protocol_policy=cloudfront.OriginProtocolPolicy.HTTP_ONLY,
            read_timeout=cdk.Duration.seconds(RESPONSE_TIMEOUT_SECONDS),
            keepalive_timeout=cdk.Duration.seconds(60),
        )
        distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment="Tandem",
            web_acl_id=firewall.arn if firewall else None,
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            default_behavior=cloudfront.BehaviorOptions(
                origin=origin,
                allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
                cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
                origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER,
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
                # Compression would delay the events of a stream.
                compress=False,
            ),
        )
        _accept_design(distribution)
        if firewall is None:
            accept(
                distribution,
                "AwsSolutions-CFR2",
                "CKV_AWS_68",
                reason="A firewall is optional: ingress.waf. For CloudFront it has to be in us-east-1.",
            )
        self.name = distribution.distribution_domain_name


def _accept_design(distribution: cloudfront.Distribution) -> None:
    accept(
        distribution,
        "AwsSolutions-CFR1",
        reason="API keys control access, not the client's country.",
    )
    accept(
        distribution,
        "AwsSolutions-CFR3",
        "CKV_AWS_86",
        reason="The load balancer, which sees every request, has access logs: ingress.access_logs.",
    )
    accept(
        distribution,
        "AwsSolutions-CFR4",
        "AwsSolutions-CFR5",
        "CKV_AWS_174",
        reason="Without a domain, CloudFront's own certificate is used, whose TLS policy is fixed; "
        "the path to the load balancer is inside the VPC.",
    )
