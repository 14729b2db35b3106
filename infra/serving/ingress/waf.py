"""AWS WAF in front of the load balancer."""

from __future__ import annotations

from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from infra.deployment.settings import Ingress as Settings
from infra.suppressions import accept


class Firewall(Construct):
    """Limits requests per client address, and blocks addresses that AWS lists as malicious.

    AWS's rules on the content of requests only count: to them, prompts about SQL, scripts or exploits look
    like attacks, and long prompts are too large.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        load_balancer: elbv2.ApplicationLoadBalancer,
        settings: Settings,
    ) -> None:
        super().__init__(scope, construct_id)
        acl = wafv2.CfnWebACL(
            self,
            "WebAcl",
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=_visibility("WebAcl"),
            rules=[
                _rate_limit(settings),
                _managed(1, "AWSManagedRulesAmazonIpReputationList", count=settings.cloudfront),
                _managed(2, "AWSManagedRulesCommonRuleSet", count=True),
                _managed(3, "AWSManagedRulesKnownBadInputsRuleSet", count=True),
            ],
        )
        accept(
            acl,
            "CKV_AWS_192",
            reason="A prompt may ask about Log4Shell; the rule only counts, and nothing here runs Java.",
        )
        wafv2.CfnWebACLAssociation(
            self,
            "Association",
            resource_arn=load_balancer.load_balancer_arn,
            web_acl_arn=acl.attr_arn,
        )


def _rate_limit(settings: Settings) -> wafv2.CfnWebACL.RuleProperty:
    forwarded = wafv2.CfnWebACL.ForwardedIPConfigurationProperty(
        header_name="X-Forwarded-For", fallback_behavior="MATCH"
    )
    return wafv2.CfnWebACL.RuleProperty(
        name="RateLimit",
        priority=0,
        action=wafv2.CfnWebACL.RuleActionProperty(block={}),
        statement=wafv2.CfnWebACL.StatementProperty(
            rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                limit=settings.waf_requests_per_5_minutes,
                evaluation_window_sec=300,
                # With CloudFront, every connection comes from CloudFront.
                aggregate_key_type="FORWARDED_IP" if settings.cloudfront else "IP",
                forwarded_ip_config=forwarded if settings.cloudfront else None,
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
