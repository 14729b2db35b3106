"""The ingress: an HTTPS load balancer, its domain name, and what is in front of it."""

from __future__ import annotations

import json
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_route53_targets as route53_targets
from constructs import Construct

from infra.deployment.environment import ORCHESTRATOR_PORT
from infra.deployment.file import Deployment
from infra.deployment.settings import Ingress as Settings
from infra.deployment.settings import Jwt
from infra.foundation.network import private_subnets
from infra.serving.orchestrator import HEALTH_CHECK_PATH, Orchestrator
from infra.suppressions import accept

from .access_logs import AccessLogs
from .cloudfront import CloudFront
from .waf import Firewall

PUBLIC_PATHS = {
    "Public": ("/v1/*", "//v1/*", "/openai/*", "/mcp"),
    "WithoutV1": ("/chat/completions*", "/completions*", "/embeddings*", "/responses*", "/models*"),
}
"""The paths of each listener rule, at most five: the API as clients spell it.

The load balancer answers all other paths itself: /metrics and /ready are not public.
"""

OPEN_PATHS = {
    "Pages": ("/", "/page/*", "/docs", "/docs/*", "/openapi.json"),
    "Health": ("/health",),
}
"""The same for what needs no token: the pages, with `ingress.page`, and the health check."""

_NOT_FOUND = {
    "error": {
        "message": "There is nothing at this path. The API is below /v1.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
}


class Ingress(Construct):
    """The load balancer in front of the orchestrator. Clients use `url`.

    With CloudFront it is internal and speaks HTTP: CloudFront has the certificate and reaches it in the VPC.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        deployment: Deployment,
        orchestrator: Orchestrator,
        certificate_arn: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.ingress
        self.load_balancer = self._load_balancer(vpc, deployment)
        self.target_group = self._target_group(vpc, settings, orchestrator)
        if certificate_arn:
            self._listen_https(settings, certificate_arn)
        else:
            self._listen_http(settings)
        if settings.access_logs:
            AccessLogs(self, "AccessLogs", load_balancer=self.load_balancer, deployment=deployment)
        firewall = Firewall(self, "Firewall", settings=settings) if deployment.has_firewall else None
        if firewall and not settings.cloudfront:
            firewall.protect(self.load_balancer)
        self.url = f"https://{self._name(settings, firewall)}/v1"

    def _load_balancer(self, vpc: ec2.IVpc, deployment: Deployment) -> elbv2.ApplicationLoadBalancer:
        settings = deployment.ingress
        public = settings.scheme == "public" and not settings.cloudfront
        security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            description="Load balancer: clients come in, the orchestrator goes out",
            allow_all_outbound=False,
        )
        for cidr in settings.allowed_cidrs:
            for port in _open_ports(settings):
                security_group.add_ingress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(port), "Clients")
        accept(
            security_group,
            "AwsSolutions-EC23",
            "CKV_AWS_260",
            reason="ingress.allowed_cidrs sets who may connect. Port 80 is open only for a redirect that "
            "ingress.http_redirect asks for, or for CloudFront, to a load balancer without a public address.",
        )
        load_balancer = elbv2.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=vpc.public_subnets if public else private_subnets(vpc)),
            internet_facing=public,
            security_group=security_group,
            idle_timeout=cdk.Duration.seconds(settings.idle_timeout_seconds),
            drop_invalid_header_fields=True,
            desync_mitigation_mode=elbv2.DesyncMitigationMode.STRICTEST,
            deletion_protection=deployment.removal_policy == "retain",
        )
        if not settings.access_logs:
            accept(
                load_balancer,
                "AwsSolutions-ELB2",
                "CKV_AWS_91",
                reason="Access logs are optional: ingress.access_logs. The orchestrator logs every request.",
            )
        return load_balancer

    def error_counts(self, period: cdk.Duration) -> list[cloudwatch.IMetric]:
        """Returns the numbers of errors that clients got, by who answered."""
        codes, own = elbv2.HttpCodeTarget, elbv2.HttpCodeElb
        count = self.target_group.metrics.http_code_target
        return [
            count(codes.TARGET_5XX_COUNT, period=period, label="5xx"),
            count(codes.TARGET_4XX_COUNT, period=period, label="4xx"),
            self.load_balancer.metrics.http_code_elb(
                own.ELB_5XX_COUNT, period=period, label="5xx of the load balancer"
            ),
        ]

    def _target_group(
        self, vpc: ec2.IVpc, settings: Settings, orchestrator: Orchestrator
    ) -> elbv2.ApplicationTargetGroup:
        group = elbv2.ApplicationTargetGroup(
            self,
            "Targets",
            vpc=vpc,
            target_type=elbv2.TargetType.IP,
            protocol=elbv2.ApplicationProtocol.HTTP,
            port=ORCHESTRATOR_PORT,
            # Answers take seconds to minutes, so outstanding requests are a better measure than round robin.
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            deregistration_delay=cdk.Duration.seconds(settings.deregistration_delay_seconds),
            health_check=elbv2.HealthCheck(
                path=HEALTH_CHECK_PATH,
                healthy_http_codes="200",
                interval=cdk.Duration.seconds(15),
                timeout=cdk.Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
        )
        group.add_target(orchestrator.service)
        return group

    def _listen_https(self, settings: Settings, certificate_arn: str) -> None:
        https = self.load_balancer.add_listener(
            "Https",
            port=443,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            certificates=[elbv2.ListenerCertificate.from_arn(certificate_arn)],
            ssl_policy=elbv2.SslPolicy.RECOMMENDED_TLS,
            default_action=_not_found(),
            open=False,
        )
        self._forward_public_paths(https, settings)
        if settings.http_redirect:
            self.load_balancer.add_listener(
                "Http",
                port=80,
                default_action=elbv2.ListenerAction.redirect(protocol="HTTPS", port="443", permanent=True),
                open=False,
            )
        if settings.domain and settings.hosted_zone_id:
            route53.ARecord(
                self,
                "Alias",
                zone=route53.HostedZone.from_hosted_zone_id(self, "Zone", settings.hosted_zone_id),
                record_name=f"{settings.domain}.",
                target=route53.RecordTarget.from_alias(
                    route53_targets.LoadBalancerTarget(self.load_balancer)
                ),
            )

    def _listen_http(self, settings: Settings) -> None:
        http = self.load_balancer.add_listener(
            "CloudFrontOnly", port=80, default_action=_not_found(), open=False
        )
        self._forward_public_paths(http, settings)
        accept(
            http,
            "CKV_AWS_2",
            "CKV_AWS_103",
            reason="CloudFront has the certificate and reaches this port inside the VPC.",
        )

    def _forward_public_paths(self, listener: elbv2.ApplicationListener, settings: Settings) -> None:
        forward = elbv2.ListenerAction.forward([self.target_group])
        # Each name keeps its priority, since CloudFormation cannot exchange those of two rules.
        for priority, (name, paths) in enumerate({**PUBLIC_PATHS, **OPEN_PATHS}.items(), 1):
            if name == "Pages" and not settings.page:
                continue
            verified = settings.jwt if name in PUBLIC_PATHS else None
            rule = elbv2.ApplicationListenerRule(
                listener,
                f"{name}Rule",
                listener=listener,
                priority=priority,
                conditions=[elbv2.ListenerCondition.path_patterns(list(paths))],
                action=_verifying(verified, forward) if verified else forward,
            )
            if verified:
                _check_audience(rule, verified)

    def _name(self, settings: Settings, firewall: Firewall | None) -> str:
        if settings.cloudfront:
            return CloudFront(self, "CloudFront", load_balancer=self.load_balancer, firewall=firewall).name
        return settings.domain or self.load_balancer.load_balancer_dns_name


def _verifying(jwt: Jwt, forward: elbv2.ListenerAction) -> elbv2.ListenerAction:
    return elbv2.ListenerAction.authenticate_jwt(issuer=jwt.issuer, jwks_endpoint=jwt.jwks, next=forward)


def _check_audience(rule: elbv2.ApplicationListenerRule, jwt: Jwt) -> None:
    """Adds the audience to what is verified, which the CDK's own construct cannot."""
    claim = {"Name": "aud", "Format": jwt.audience_format, "Values": [jwt.audience]}
    resource = cast(elbv2.CfnListenerRule, rule.node.default_child)
    resource.add_property_override("Actions.0.JwtValidationConfig.AdditionalClaims", [claim])


def _open_ports(settings: Settings) -> tuple[int, ...]:
    """Port 80 is closed by default: a redirect comes after the client has sent its key unencrypted."""
    if settings.cloudfront:
        return (80,)
    return (80, 443) if settings.http_redirect else (443,)


def _not_found() -> elbv2.ListenerAction:
    return elbv2.ListenerAction.fixed_response(
        404, content_type="application/json", message_body=json.dumps(_NOT_FOUND)
    )
