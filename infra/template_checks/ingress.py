"""Rules on the ingress: load balancer, listeners, firewall."""

from __future__ import annotations

from infra.deployment.checks.rule import Found, rule

from .services import orchestrator_services
from .template import Assembly, Resource, attributes, container, environment

_TLS_1_2_OR_NEWER = ("ELBSecurityPolicy-TLS13-1-2-2021-06", "ELBSecurityPolicy-TLS13-1-3-2021-06")
# /metrics and /ready have only one spelling (api/router.py), so none of these forwards them.
_PUBLIC = {
    "/v1/*", "//v1/*", "/openai/*", "/mcp", "/health", "/chat/completions*", "/completions*", "/embeddings*",
    "/responses*", "/models*",
}  # fmt: skip
_PAGES = {"/", "/page/*", "/docs", "/docs/*", "/openapi.json"}
_DEADLINE_MARGIN_SECONDS = 30
_AGAINST_SMUGGLING = {
    "routing.http.drop_invalid_header_fields.enabled": "true",
    "routing.http.desync_mitigation_mode": "strictest",
}


@rule("T-targets")
def targets(assembly: Assembly) -> Found[Resource]:
    """The load balancer sends requests to the orchestrator's address and port."""
    for service, task in orchestrator_services(assembly):
        port = str(environment(task).get("PORT", 8001))
        mapped = [str(one["ContainerPort"]) for one in container(task).get("PortMappings", [])]
        entries = service.get("LoadBalancers", [])
        if port not in mapped or [str(one["ContainerPort"]) for one in entries] != [port]:
            yield (
                service,
                f"PORT is {port}, but the mapped ports are {mapped} and the load-balanced ones {entries}",
            )
        for entry in entries:
            group = assembly.target(service.template, entry["TargetGroupArn"])
            if entry["ContainerName"] != container(task)["Name"] or group is None:
                yield (service, "it refers to a container or a target group that does not exist")
                continue
            if (group.get("TargetType"), group.get("Protocol")) != ("ip", "HTTP"):
                yield (group, "tasks with their own network interface need TargetType ip, Protocol HTTP")
            if str(group.get("Port")) != port:
                yield (group, f"its port is {group.get('Port')}, but the orchestrator's is {port}")


@rule("T-target-health")
def target_health(assembly: Assembly) -> Found[Resource]:
    """The health check does not depend on the engine, or a dead engine would take down every orchestrator."""
    for group in assembly.of_kind("AWS::ElasticLoadBalancingV2::TargetGroup"):
        asked = (group.get("HealthCheckPath"), group.get("Matcher.HttpCode", "200"))
        if asked != ("/v1/models", "200"):
            yield (group, f"it checks {asked[0]} for {asked[1]}; it must check /v1/models for 200")
        if group.get("HealthCheckEnabled") is False or group.get("HealthCheckPort", "traffic-port") != (
            "traffic-port"
        ):
            yield (group, "it must check the port that requests go to")
    for service, _ in orchestrator_services(assembly):
        if service.number("HealthCheckGracePeriodSeconds", 0) < 30:
            yield (service, "HealthCheckGracePeriodSeconds must be at least 30, the time to start")


@rule("T-https")
def https(assembly: Assembly) -> Found[Resource]:
    """Clients use TLS 1.2 or 1.3, with the load balancer or with CloudFront."""
    listeners = {
        int(one.number("Port", 0)): one for one in assembly.of_kind("AWS::ElasticLoadBalancingV2::Listener")
    }
    for balancer in assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        if assembly.plan.deployment.ingress.cloudfront:
            continue
        tls = listeners.get(443)
        if tls is None or tls.get("Protocol") != "HTTPS" or not tls.get("Certificates"):
            yield (tls or balancer, "port 443 must speak HTTPS, with a certificate")
        elif tls.get("SslPolicy") not in _TLS_1_2_OR_NEWER:
            yield (tls, f"SslPolicy {tls.get('SslPolicy')} allows older TLS; use {_TLS_1_2_OR_NEWER[0]}")
        plain = listeners.get(80)
        if plain is not None and not assembly.plan.deployment.ingress.http_redirect:
            yield (
                plain,
                "port 80 must be closed: a redirect comes after the client has sent its key unencrypted",
            )
        elif plain is not None and [one["Type"] for one in plain.get("DefaultActions", [])] != ["redirect"]:
            yield (plain, "port 80 must redirect to port 443")
    for distribution in assembly.of_kind("AWS::CloudFront::Distribution"):
        behavior = distribution.get("DistributionConfig.DefaultCacheBehavior", {})
        if behavior.get("ViewerProtocolPolicy") != "https-only" or behavior.get("Compress") is not False:
            yield (distribution, "it must allow HTTPS only and not compress, which would delay streams")


def _paths(entry: Resource) -> set[str]:
    return {
        path
        for condition in entry.get("Conditions", [])
        for path in condition.get("PathPatternConfig", {}).get("Values", [])
    }


@rule("T-public-paths")
def public_paths(assembly: Assembly) -> Found[Resource]:
    """Only the paths of the API, and of the pages if there are any, are forwarded.

    Metrics and readiness are not public.
    """
    public = _PUBLIC | (_PAGES if assembly.plan.deployment.ingress.page else set())
    forwarded: set[str] = set()
    for listener in assembly.of_kind("AWS::ElasticLoadBalancingV2::Listener"):
        if any(action["Type"] == "forward" for action in listener.get("DefaultActions", [])):
            yield (listener, "its default action forwards every path; it must be a fixed response")
    for entry in assembly.of_kind("AWS::ElasticLoadBalancingV2::ListenerRule"):
        paths = _paths(entry)
        forwarded |= paths
        if not paths or paths - public:
            yield (entry, f"it forwards {sorted(paths) or 'every path'}; only {sorted(public)} are public")
    for group in assembly.of_kind("AWS::ElasticLoadBalancingV2::TargetGroup"):
        if missing := public - forwarded:
            yield (group, f"{sorted(missing)} are not forwarded to it")


@rule("T-tokens")
def tokens(assembly: Assembly) -> Found[Resource]:
    """The orchestrator trusts tokens without their signature only if every way to its API verifies it."""
    for _, task in orchestrator_services(assembly):
        settings = environment(task)
        issuer, audience = settings.get("JWT_ISSUER"), settings.get("JWT_AUDIENCE")
        wanted = assembly.plan.deployment.ingress.jwt
        if wanted and (issuer, audience) != (wanted.issuer, wanted.audience):
            yield (task, f"it must accept tokens of {wanted.issuer} for {wanted.audience}")
        if not issuer:
            continue
        for entry in assembly.of_kind("AWS::ElasticLoadBalancingV2::ListenerRule"):
            if _paths(entry) <= _PAGES | {"/health"}:
                continue
            first = min(entry.get("Actions", []), key=lambda action: action.get("Order", 0))
            config = first.get("JwtValidationConfig", {})
            claims = [one["Values"] for one in config.get("AdditionalClaims", []) if one["Name"] == "aud"]
            if first["Type"] != "jwt-validation" or config["Issuer"] != issuer or claims != [[audience]]:
                yield (entry, f"it must first verify tokens of {issuer} for the audience {audience}")


@rule("T-timeouts")
def timeouts(assembly: Assembly) -> Found[Resource]:
    """Timeouts along the path are consistent, so that no side closes a connection in use."""
    for _, task in orchestrator_services(assembly):
        settings = environment(task)
        deadline = float(settings.get("REQUEST_TIMEOUT_SECONDS", 300))
        keep_alive = float(settings.get("KEEP_ALIVE_SECONDS", 930))
        for balancer in assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"):
            idle = float(
                attributes(balancer, "LoadBalancerAttributes").get("idle_timeout.timeout_seconds", 60)
            )
            if idle < deadline + _DEADLINE_MARGIN_SECONDS:
                yield (
                    balancer,
                    f"it closes connections after {idle:g} s, but answers may take {deadline:g} s; "
                    f"ingress.idle_timeout_seconds: {deadline + _DEADLINE_MARGIN_SECONDS:g}",
                )
            if keep_alive <= idle:
                yield (
                    task,
                    f"KEEP_ALIVE_SECONDS is {keep_alive:g} and the load balancer's idle timeout {idle:g}: it "
                    "must be longer, or requests are sent on a connection that the orchestrator closed",
                )
        for group in assembly.of_kind("AWS::ElasticLoadBalancingV2::TargetGroup"):
            delay = float(
                attributes(group, "TargetGroupAttributes").get("deregistration_delay.timeout_seconds", 300)
            )
            if delay < deadline + _DEADLINE_MARGIN_SECONDS:
                yield (
                    group,
                    f"tasks are stopped {delay:g} s after their last new request, but answers may take "
                    f"{deadline:g} s; ingress.deregistration_delay_seconds: "
                    f"{deadline + _DEADLINE_MARGIN_SECONDS:g}",
                )


@rule("T-headers")
def headers(assembly: Assembly) -> Found[Resource]:
    """Requests that could hide a second one are dropped, and so are invalid headers."""
    for balancer in assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        for name, value in _AGAINST_SMUGGLING.items():
            if attributes(balancer, "LoadBalancerAttributes").get(name) != value:
                yield (balancer, f"{name} must be {value}")


RULES = (
    targets,
    target_health,
    https,
    public_paths,
    tokens,
    timeouts,
    headers,
)
