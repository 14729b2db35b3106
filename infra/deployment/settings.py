"""The sections of the deployment file: every setting with its default and description."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from .trace_settings import Traces
from .values import (
    CertificateArn,
    Domain,
    Email,
    HostedZoneId,
    HttpsUrl,
    Ipv4Network,
    Origin,
    RetentionDays,
    Section,
    SecurityGroupId,
    SlackChannel,
    SlackWorkspace,
    SubnetId,
    TopicArn,
    Variable,
    VpcId,
    VpcNetwork,
    Word,
    Zone,
    yaml_list,
)

HUB, MIRROR = "hub", "mirror"
"""Values of model.source besides a place in S3."""


class ExistingVpc(Section):
    """An existing VPC for the deployment. Its subnets are listed in the order of its zones.

    The ID alone is enough: `make doctor` and `make deploy` look up the rest and write it into the file.
    """

    vpc_id: VpcId = Field(description="ID of the VPC.")
    cidr: Ipv4Network | None = Field(
        default=None, description="IPv4 network of the VPC. Looked up by `make doctor`."
    )
    availability_zones: tuple[Zone, ...] = yaml_list(
        (), "Availability zones of the subnets; a load balancer needs two. Looked up by `make doctor`."
    )
    private_subnet_ids: tuple[SubnetId, ...] = yaml_list(
        (), "One subnet per zone with a route to a NAT gateway. Looked up by `make doctor`."
    )
    public_subnet_ids: tuple[SubnetId, ...] = yaml_list(
        (), "One subnet per zone with a route to an internet gateway; none for an internal load balancer."
    )

    @model_validator(mode="before")
    @classmethod
    def _id_alone(cls, data: Any) -> Any:
        return {"vpc_id": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_subnet_a_zone(self) -> Self:
        zones = len(self.availability_zones)
        if zones == 1:
            raise ValueError("availability_zones lists one zone; a load balancer needs two")
        for name in ("private_subnet_ids", "public_subnet_ids"):
            subnets = len(getattr(self, name))
            if subnets not in (zones, 0):
                raise ValueError(f"{name} has {subnets} subnets for {zones} zones; list one per zone")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}

    @property
    def known(self) -> bool:
        """Whether the file has everything that synthesis needs."""
        return bool(self.cidr and self.private_subnet_ids)


class Network(Section):
    """Where the deployment runs."""

    cidr: VpcNetwork = Field(
        default="10.0.0.0/16", description="IPv4 network of the new VPC, from /16 to /24."
    )
    zones: int = Field(
        default=2,
        ge=2,
        le=6,
        description="Number of availability zones of the new VPC; with more, GPUs are found more often.",
    )
    availability_zones: tuple[Zone, ...] = yaml_list((), "Specific zones to use; overrides `zones`.")
    nat: Literal["one", "per_zone", "none"] = Field(
        default="one", description="NAT gateways of the new VPC; `per_zone` survives the loss of a zone."
    )
    flow_logs: bool = Field(
        default=False, description="Whether to record the new VPC's connections in CloudWatch Logs."
    )
    existing_vpc: ExistingVpc | None = Field(
        default=None,
        description="An existing VPC to use, as an ID or a section; the other network settings are then "
        "ignored.",
    )


class Orchestrator(Section):
    """The Fargate service that clients talk to."""

    cpu: int = Field(default=1024, description="CPU of a task; 1024 is one vCPU.")
    memory_mib: int = Field(
        default=2048, description="Memory of a task in MiB; Fargate supports fixed combinations with `cpu`."
    )
    architecture: Literal["x86_64", "arm64"] = Field(
        default="x86_64", description="CPU architecture of the tasks."
    )
    min_tasks: int = Field(default=3, ge=1, le=1000, description="Minimum number of tasks.")
    max_tasks: int = Field(default=10, ge=1, le=1000, description="Maximum number of tasks.")
    target_cpu_percent: int = Field(
        default=60, ge=10, le=90, description="Average CPU utilization that the number of tasks is scaled to."
    )
    request_timeout_seconds: int = Field(
        default=300, ge=1, le=3600, description="Time limit of a whole request, including its tool calls."
    )
    stop_timeout_seconds: int = Field(
        default=120,
        ge=30,
        le=120,
        description="Time for a stopping task to finish its requests.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum level to log."
    )
    environment: dict[Variable, str] = Field(
        default={},
        description="Any other setting of the orchestrator, by the name of its variable in the README.",
    )
    traces: Traces | None = Field(default=None, description="Where traces of requests go. Default: nowhere.")


class Jwt(Section):
    """JSON Web Tokens of a company's identity provider, which the load balancer verifies (RS256 only)."""

    issuer: HttpsUrl = Field(description="Issuer of the tokens, exactly as in their claim `iss`.")
    jwks: HttpsUrl = Field(
        description="URL of the issuer's public keys, which the load balancer must be able to reach. AWS "
        "accepts up to 10 keys and 150 KB."
    )
    audience: Word = Field(max_length=256, description="Audience of the tokens: their claim `aud`.")
    audience_format: Literal["single-string", "string-array"] = Field(
        default="single-string", description="Whether `aud` is a text or a list in the issuer's tokens."
    )
    claim: Word = Field(
        default="sub", description="Claim that says who somebody is, in limits, usage and logs."
    )


class Ingress(Section):
    """How clients reach the orchestrator."""

    scheme: Literal["public", "internal"] = Field(
        default="public",
        description="Whether the load balancer is reachable from the internet, or only from the VPC.",
    )
    certificate_arn: CertificateArn | None = Field(
        default=None,
        description="Certificate in ACM that covers `domain`; without it and without a hosted zone, the "
        "deployment asks for one.",
    )
    domain: Domain | None = Field(
        default=None,
        description="Domain name that clients use, e.g. llm.example.com; a certificate needs one.",
    )
    hosted_zone_id: HostedZoneId | None = Field(
        default=None, description="Route 53 hosted zone of the domain, for its alias record and certificate."
    )
    cloudfront: bool = Field(
        default=False,
        description="Whether to put CloudFront in front of the load balancer: HTTPS without a domain.",
    )
    http_redirect: bool = Field(
        default=False,
        description="Whether port 80 is open and redirects to HTTPS; by then, the client has sent its key "
        "unencrypted.",
    )
    allowed_cidrs: tuple[Ipv4Network, ...] = yaml_list(
        ("0.0.0.0/0",), "IPv4 networks that may connect.", min_length=1
    )
    cors_origins: tuple[Origin, ...] = yaml_list(
        (), "Origins of web pages that may use the API from a browser, e.g. https://app.example.com, or `*`."
    )
    page: bool = Field(
        default=True,
        description="Whether browsers get a chat page at `/`, and the description of the API at `/docs`.",
    )
    jwt: Jwt | None = Field(
        default=None,
        description="Tokens that every request to the API needs in `Authorization`. A key in `X-API-Key` "
        "then says whose request it is; without one, the token does.",
    )
    waf: bool | None = Field(
        default=None,
        description="Whether AWS WAF limits the requests per client address. Default: yes if `scheme` is "
        "public, but with CloudFront only if `region` is us-east-1.",
    )
    waf_managed_rules: bool = Field(
        default=False,
        description="Whether WAF also blocks addresses that AWS lists as malicious, and counts suspicious "
        "content.",
    )
    waf_requests_per_5_minutes: int = Field(
        default=20_000,
        ge=10,
        le=2_000_000_000,
        description="The request limit of WAF per client address in five minutes.",
    )
    access_logs: bool = Field(default=False, description="Whether to log every request in an S3 bucket.")
    idle_timeout_seconds: int = Field(
        default=900, ge=1, le=4000, description="Idle time after which the load balancer closes a connection."
    )
    deregistration_delay_seconds: int = Field(
        default=330, ge=0, le=3600, description="Time for running requests to finish when a task is removed."
    )

    @model_validator(mode="after")
    def _zone_and_domain(self) -> Self:
        if self.hosted_zone_id and not self.domain:
            raise ValueError("hosted_zone_id requires a domain: set ingress.domain to a name in that zone")
        return self

    @property
    def takes_certificate(self) -> bool:
        """Whether the certificate is given when deploying, because nothing here says which one to use."""
        return not (self.cloudfront or self.certificate_arn or self.hosted_zone_id)


class Limits(Section):
    """Limits of each API key that has none of its own; `make keys` sets those of single keys."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests per minute of one key, over all tasks."
    )
    tokens_per_day: int | None = Field(
        default=None, ge=1, description="Tokens per day (UTC) of one key, over all tasks."
    )
    max_in_flight: int | None = Field(
        default=None, ge=1, description="Requests of one key at the same time, over all tasks."
    )
    fail_open: bool = Field(
        default=True,
        description="Whether each task grants the whole limits while DynamoDB does not answer. If not, keys "
        "with limits get a 503 then.",
    )


class Images(Section):
    """Where the container images are built."""

    build: Literal["in_account", "local"] = Field(
        default="in_account",
        description="`in_account` builds with CodeBuild during the deployment, `local` with your Docker.",
    )


class Logs(Section):
    """Retention of logs."""

    retention_days: RetentionDays = Field(default=30, description="Number of days to keep logs.")


class Metrics(Section):
    """Metrics and alarms."""

    container_insights: bool = Field(
        default=False,
        description="Whether to enable CloudWatch Container Insights, which charges per metric.",
    )
    alarm_email: Email | None = Field(default=None, description="Email address for alarms.")
    alarm_topic_arn: TopicArn | None = Field(
        default=None, description="An SNS topic of your own that also gets the alarms."
    )
    slack_workspace_id: SlackWorkspace | None = Field(
        default=None,
        description="Slack workspace for alarms, which you authorize once in the console of AWS Chatbot.",
    )
    slack_channel_id: SlackChannel | None = Field(
        default=None, description="Slack channel for alarms, in `slack_workspace_id`."
    )
    scraper_security_group: SecurityGroupId | None = Field(
        default=None, description="Security group of your own Prometheus, which may then read `/metrics`."
    )
