"""HTTPS without a domain: CloudFront in front of an internal load balancer."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from constructs import Construct

from infra.suppressions import accept

RESPONSE_TIMEOUT_SECONDS = 120
"""Silence after which CloudFront gives up on an answer: the most without a higher quota."""


class CloudFront(Construct):
    """A distribution that passes everything on and caches nothing; `name` is its host name."""

    def __init__(
        self, scope: Construct, construct_id: str, *, load_balancer: elbv2.ApplicationLoadBalancer
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
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            default_behavior=cloudfront.BehaviorOptions(
                origin=origin,
                allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
                cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
                origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER,
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
                # Compression would hold back the events of a stream.
                compress=False,
            ),
        )
        _accept_design(distribution)
        self.name = distribution.distribution_domain_name


def _accept_design(distribution: cloudfront.Distribution) -> None:
    accept(
        distribution,
        "AwsSolutions-CFR1",
        reason="Where clients may be is for the API keys to say, not their country.",
    )
    accept(
        distribution,
        "AwsSolutions-CFR2",
        "CKV_AWS_68",
        reason="The firewall of ingress.waf stands before the load balancer, which sees every request.",
    )
    accept(
        distribution,
        "AwsSolutions-CFR3",
        "CKV_AWS_86",
        reason="Access logs are the load balancer's, ingress.access_logs, which sees every request.",
    )
    accept(
        distribution,
        "AwsSolutions-CFR4",
        "AwsSolutions-CFR5",
        "CKV_AWS_174",
        reason="Without a domain CloudFront's own certificate is used, and its TLS policy is fixed; "
        "the way to the load balancer lies inside the VPC.",
    )
