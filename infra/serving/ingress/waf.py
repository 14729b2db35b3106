"""AWS WAF in front of the load balancer or, if there is one, of CloudFront."""

from __future__ import annotations

import json

from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from infra.deployment.settings import Ingress as Settings
from infra.suppressions import accept

_TOO_MANY = {
    "error": {
        "message": "Too many requests from this address. Try again in a minute.",
        "type": "rate_limit_error",
        "param": None,
        "code": "too_many_requests",
    }
}
_BODY = "TooManyRequests"


class Firewall(Construct):
    """Limits requests per client address. Its managed rules block addresses that AWS lists as malicious.

    AWS's rules on the content of requests only count: to them, prompts about SQL, scripts or exploits look
    like attacks, and long prompts are too large.

    With CloudFront it stands in front of CloudFront, where it sees the addresses of clients. At the load
    balancer they are in X-Forwarded-For, whose first entries a client chooses.

    Attributes:
        arn: the ARN of the web ACL, for CloudFront.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings) -> None:
        super().__init__(scope, construct_id)
        managed = [
            _managed(1, "AWSManagedRulesAmazonIpReputationList", count=False),
            _managed(2, "AWSManagedRulesCommonRuleSet", count=True),
            _managed(3, "AWSManagedRulesKnownBadInputsRuleSet", count=True),
        ]
        acl = wafv2.CfnWebACL(
            self,
            "WebAcl",
            scope="CLOUDFRONT" if settings.cloudfront else "REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=_visibility("WebAcl"),
            custom_response_bodies={
                _BODY: wafv2.CfnWebACL.CustomResponseBodyProperty(
                    content=json.dumps(_TOO_MANY), content_type="APPLICATION_JSON"
                )
            },
            rules=[
                _rate_limit(settings.waf_requests_per_5_minutes),
                *(managed if settings.waf_managed_rules else []),
            ],
        )
        accept(
            acl,
            "CKV_AWS_192",
            reason="A prompt may ask about Log4Shell; the rule would only count, and nothing here runs Java.",
        )
        self.arn = acl.attr_arn

    def protect(self, load_balancer: elbv2.ApplicationLoadBalancer) -> None:
        """Puts the firewall in front of a load balancer."""
        wafv2.CfnWebACLAssociation(
            self,
            "Association",
            resource_arn=load_balancer.load_balancer_arn,
            web_acl_arn=self.arn,
        )


def _rate_limit(requests: int) -> wafv2.CfnWebACL.RuleProperty:
    response = wafv2.CfnWebACL.CustomResponseProperty(
        response_code=429,
        custom_response_body_key=_BODY,
        response_headers=[wafv2.CfnWebACL.CustomHTTPHeaderProperty(name="Retry-After", value="60")],
    )
    return wafv2.CfnWebACL.RuleProperty(
        name="RateLimit",
        priority=0,
        action=wafv2.CfnWebACL.RuleActionProperty(
            block=wafv2.CfnWebACL.BlockActionProperty(custom_response=response)
        ),
        statement=wafv2.CfnWebACL.StatementProperty(
            rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                limit=requests, evaluation_window_sec=300, aggregate_key_type="IP"
            )
        ),
        visibility_config=_visibility("RateLimit"),
    )


def _managed(priority: int, name: str, *, count: bool) -> wafv2.CfnWebACL.RuleProperty:
    return wafv2.CfnWebACL.RuleProperty(
        name=name,
        priority=priority,
        override_action=wafv2.CfnWebACL.OverrideActionProperty(**{"count" if count else "none": {}}),
        statement=wafv2.CfnWebACL.StatementProperty(
            managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS", name=name
            )
        ),
        visibility_config=_visibility(name),
    )


def _visibility(name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        metric_name=name, cloud_watch_metrics_enabled=True, sampled_requests_enabled=False
    )
