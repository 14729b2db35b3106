"""Faults of the way in."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    BALANCER,
    INGRESS_RULE,
    LISTENER,
    LISTENER_RULE,
    SERVICE,
    TARGETS,
    Mutation,
    attribute,
    clear_http,
    drop,
    put,
    redirected_http,
    variable,
)

ACL, ACL_ASSOCIATION = "AWS::WAFv2::WebACL", "AWS::WAFv2::WebACLAssociation"
LIMIT, RATE = ("Rules", 0), ("Statement", "RateBasedStatement")

FAULTS = (
    Mutation("target type instance", "T-targets", put(TARGETS, ("TargetType",), "instance")),
    Mutation("target group on another port", "T-targets", put(TARGETS, ("Port",), 8000)),
    Mutation(
        "container port that is not there",
        "T-targets",
        put(SERVICE, ("LoadBalancers", 0, "ContainerPort"), 8000, "Orchestrator"),
    ),
    Mutation(
        "health check that asks the engine", "T-target-health", put(TARGETS, ("HealthCheckPath",), "/ready")
    ),
    Mutation(
        "no time to start",
        "T-target-health",
        put(SERVICE, ("HealthCheckGracePeriodSeconds",), 0, "Orchestrator"),
    ),
    Mutation("TLS 1.0", "T-https", put(LISTENER, ("SslPolicy",), "ELBSecurityPolicy-2016-08", "Https")),
    Mutation("no certificate", "T-https", drop(LISTENER, ("Certificates",), "Https")),
    Mutation("HTTP in clear", "T-https", clear_http, "existing_vpc"),
    Mutation("port 80 open without the setting", "T-https", redirected_http),
    Mutation(
        "streams compressed",
        "T-https",
        put(
            "AWS::CloudFront::Distribution", ("DistributionConfig", "DefaultCacheBehavior", "Compress"), True
        ),
        "cloudfront",
    ),
    Mutation(
        "metrics for the public",
        "T-public-paths",
        put(LISTENER_RULE, ("Conditions", 0, "PathPatternConfig", "Values"), ["/*"]),
    ),
    Mutation(
        "everything forwarded",
        "T-public-paths",
        put(LISTENER, ("DefaultActions", 0, "Type"), "forward", "Https"),
    ),
    Mutation("paths without /v1 not forwarded", "T-public-paths", drop(LISTENER_RULE, (), "WithoutV1")),
    Mutation("chat page not forwarded", "T-public-paths", drop(LISTENER_RULE, (), "Pages")),
    Mutation(
        "chat page for the public although it is switched off",
        "T-public-paths",
        put(LISTENER_RULE, ("Conditions", 0, "PathPatternConfig", "Values"), ["/", "/page/*"], "Without"),
        "internal",
    ),
    Mutation("tokens not verified", "T-tokens", drop(LISTENER_RULE, ("Actions", 0), "Public"), "own_domain"),
    Mutation(
        "tokens of another issuer verified",
        "T-tokens",
        put(LISTENER_RULE, ("Actions", 0, "JwtValidationConfig", "Issuer"), "https://other/", "Public"),
        "own_domain",
    ),
    Mutation(
        "audience not verified",
        "T-tokens",
        drop(LISTENER_RULE, ("Actions", 0, "JwtValidationConfig", "AdditionalClaims"), "Public"),
        "own_domain",
    ),
    Mutation(
        "tokens trusted without a load balancer that verifies them",
        "T-tokens",
        variable("Orchestrator", "JWT_ISSUER", "https://login.example.com/"),
    ),
    Mutation("nothing forwarded", "T-public-paths", drop(LISTENER_RULE, ())),
    Mutation(
        "idle timeout of 60 s",
        "T-timeouts",
        attribute(BALANCER, "LoadBalancerAttributes", "idle_timeout.timeout_seconds", "60"),
    ),
    Mutation(
        "idle timeout beyond keep-alive", "T-timeouts", variable("Orchestrator", "KEEP_ALIVE_SECONDS", "75")
    ),
    Mutation(
        "deregistration of 30 s",
        "T-timeouts",
        attribute(TARGETS, "TargetGroupAttributes", "deregistration_delay.timeout_seconds", "30"),
    ),
    Mutation(
        "invalid headers let through",
        "T-headers",
        attribute(
            BALANCER, "LoadBalancerAttributes", "routing.http.drop_invalid_header_fields.enabled", "false"
        ),
    ),
    Mutation(
        "ambiguous requests let through",
        "T-headers",
        attribute(BALANCER, "LoadBalancerAttributes", "routing.http.desync_mitigation_mode", "defensive"),
    ),
    Mutation(
        "orchestrator open to the world",
        "T-reachability",
        put(INGRESS_RULE, ("CidrIp",), "0.0.0.0/0", "OrchestratorSecurityGroup"),
    ),
    Mutation("engine not reached", "T-reachability", drop(INGRESS_RULE, (), "EngineSecurityGroup")),
    Mutation(
        "wrong port of the engine",
        "T-reachability",
        put(INGRESS_RULE, ("FromPort",), 8080, "EngineSecurityGroup"),
    ),
    Mutation(
        "instances open",
        "T-reachability",
        put(
            "AWS::EC2::SecurityGroup",
            ("SecurityGroupIngress",),
            [{"CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}],
            "GpuCapacity",
        ),
    ),
    Mutation(
        "WAF blocks prompts",
        "T-firewall",
        put(ACL, ("Rules", 2, "OverrideAction"), {"None": {}}),
        "own_domain",
    ),
    Mutation("no request limit", "T-request-limit", drop(ACL, ("Rules", 0))),
    Mutation(
        "request limit that only counts", "T-request-limit", put(ACL, (*LIMIT, "Action"), {"Count": {}})
    ),
    Mutation("request limit of 100", "T-request-limit", put(ACL, (*LIMIT, *RATE, "Limit"), 100)),
    Mutation(
        "request limit answered with a 403",
        "T-request-limit",
        put(ACL, (*LIMIT, "Action"), {"Block": {}}),
    ),
    Mutation(
        "request limit answered with a page",
        "T-request-limit",
        put(ACL, ("CustomResponseBodies", "TooManyRequests", "ContentType"), "TEXT_HTML"),
    ),
    Mutation(
        "request limit by X-Forwarded-For",
        "T-request-limit",
        put(ACL, (*LIMIT, *RATE, "AggregateKeyType"), "FORWARDED_IP"),
        "cloudfront",
    ),
    Mutation("firewall in front of nothing", "T-firewall-in-front", drop(ACL_ASSOCIATION, ())),
    Mutation("no firewall", "T-firewall-in-front", drop(ACL, ()), "cloudfront"),
    Mutation(
        "firewall behind CloudFront", "T-firewall-in-front", put(ACL, ("Scope",), "REGIONAL"), "cloudfront"
    ),
    Mutation(
        "CloudFront without the firewall",
        "T-firewall-in-front",
        drop("AWS::CloudFront::Distribution", ("DistributionConfig", "WebACLId")),
        "cloudfront",
    ),
)
