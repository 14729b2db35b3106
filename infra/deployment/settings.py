"""The sections of the deployment file: every knob, its default and what it is."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator


def _ipv4_network(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"must be an IPv4 network such as 10.0.0.0/16: {error}") from None
    return str(network)


def _vpc_network(value: str) -> str:
    network = ipaddress.IPv4Network(_ipv4_network(value))
    if not 16 <= network.prefixlen <= 24:
        raise ValueError("must be a network from /16 to /24, e.g. 10.0.0.0/16")
    return str(network)


# fmt: off
RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)
# fmt: on


def _retention(days: int) -> int:
    if days not in RETENTION_DAYS:
        nearest = min(RETENTION_DAYS, key=lambda allowed: abs(allowed - days))
        raise ValueError(f"CloudWatch Logs cannot keep lines that long; {nearest} is the nearest it can")
    return days


def _tags(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if key.lower().startswith("aws:") or not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(
                f"{key!r} is no tag: a name has 1 to 128 characters and does not begin with aws:, "
                "a value has at most 256"
            )
    return tags


EXAMPLES: dict[str, str] = {}
"""What a value of each pattern looks like, for messages."""


def _name(pattern: str, example: str) -> StringConstraints:
    EXAMPLES[pattern] = example
    return StringConstraints(pattern=pattern)


Tags = Annotated[dict[str, str], AfterValidator(_tags)]
Ipv4Network = Annotated[str, AfterValidator(_ipv4_network)]
Name = Annotated[str, _name(r"^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", "tandem-dev")]
Word = Annotated[str, _name(r"^\S+$", "one word without spaces")]
RepoId = Annotated[str, _name(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$", "Qwen/Qwen2.5-7B-Instruct")]
Region = Annotated[str, _name(r"^[a-z]{2,}(-[a-z]+)+-\d$", "us-east-1")]
Zone = Annotated[str, _name(r"^[a-z]{2,}(-[a-z]+)+-\d[a-z]$", "us-east-1a")]
InstanceType = Annotated[str, _name(r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", "g5.xlarge")]
VpcId = Annotated[str, _name(r"^vpc-[0-9a-f]{8,17}$", "vpc-0123456789abcdef0")]
SubnetId = Annotated[str, _name(r"^subnet-[0-9a-f]{8,17}$", "subnet-0123456789abcdef0")]
SecurityGroupId = Annotated[str, _name(r"^sg-[0-9a-f]{8,17}$", "sg-0123456789abcdef0")]
HostedZoneId = Annotated[str, _name(r"^Z[A-Z0-9]{5,31}$", "Z0123456789ABCDEFGHIJ")]
Domain = Annotated[str, _name(r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$", "llm.example.com")]
CertificateArn = Annotated[
    str,
    _name(
        r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[\w-]+$",
        "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
    ),
]
SecretArn = Annotated[
    str,
    _name(
        r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+$",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:hf-token-AbCdEf",
    ),
]
Email = Annotated[str, _name(r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "someone@example.com")]


def _list(default: tuple[str, ...], description: str, **limits: Any) -> Any:
    # YAML's lists become tuples: the only conversion that strict mode would refuse.
    return Field(default, description=description, strict=False, **limits)


class Section(BaseModel):
    """A part of the deployment file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: Any) -> Any:
        return {} if data is None else data


class ExistingVpc(Section):
    """A VPC of yours that the deployment is put into. Its subnets are in the order of its zones."""

    vpc_id: VpcId = Field(description="Id of the VPC.")
    cidr: Ipv4Network = Field(description="Its IPv4 network.")
    availability_zones: tuple[Zone, ...] = Field(
        strict=False, min_length=2, description="Zones of its subnets; a load balancer needs two."
    )
    private_subnet_ids: tuple[SubnetId, ...] = Field(
        strict=False, min_length=2, description="A subnet a zone with a route to a NAT gateway."
    )
    public_subnet_ids: tuple[SubnetId, ...] = _list(
        (), "A subnet a zone with a route to an internet gateway; none for an internal load balancer."
    )

    @model_validator(mode="after")
    def _one_subnet_a_zone(self) -> Self:
        zones = len(self.availability_zones)
        for name in ("private_subnet_ids", "public_subnet_ids"):
            subnets = len(getattr(self, name))
            if subnets not in (zones, 0):
                raise ValueError(f"{name} names {subnets} subnets for {zones} zones; name one a zone")
        return self


class Network(Section):
    """Where the deployment runs."""

    cidr: Annotated[str, AfterValidator(_vpc_network)] = Field(
        default="10.0.0.0/16", description="IPv4 network of the new VPC, /16 to /24."
    )
    zones: int = Field(
        default=2, ge=2, le=6, description="Availability zones of the new VPC; more find GPUs more often."
    )
    availability_zones: tuple[Zone, ...] = _list(
        (), "Zones by name, where not any will do; overrides `zones`."
    )
    nat: Literal["one", "per_zone", "none"] = Field(
        default="one", description="NAT gateways of the new VPC: `per_zone` survives the loss of a zone."
    )
    flow_logs: bool = Field(default=False, description="Record the new VPC's connections in CloudWatch Logs.")
    existing_vpc: ExistingVpc | None = Field(
        default=None,
        description="A VPC of yours instead of a new one; the other network knobs then do nothing.",
    )


class Model(Section):
    """What the engine serves, and how."""

    id: RepoId = Field(
        default="Qwen/Qwen2.5-7B-Instruct", description="Name of the model on the Hugging Face Hub."
    )
    revision: Word | None = Field(
        default=None,
        description="Commit, tag or branch; default: the one in `services/vllm/models.yaml`, if any.",
    )
    served_name: Word | None = Field(
        default=None, description="The name that clients use; default: the model's id."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="bfloat16",
        description="Number format of the activations, and of weights that are not quantized.",
    )
    quantization: Word | None = Field(
        default=None,
        description="vLLM's name of the quantization, e.g. `fp8`; default: what the model's files say.",
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        default="auto", description="Number format of the KV cache; `auto` is that of the activations."
    )
    max_model_len: int = Field(default=16384, ge=1, description="Most tokens of prompt and answer together.")
    gpu_memory_utilization: float = Field(
        default=0.90, gt=0, le=1, description="Share of the GPU's memory that the engine takes."
    )
    max_num_seqs: int = Field(default=32, ge=1, description="Requests generated side by side.")
    max_num_queued_reqs: int = Field(
        default=64, ge=1, description="Requests under way or waiting, beyond which the engine answers 503."
    )
    tool_call_parser: Word | None = Field(
        default=None,
        description="vLLM's parser; default: the one in `models.yaml`. `none` serves without tools.",
    )
    reasoning_parser: Word | None = Field(
        default=None,
        description="vLLM's parser; default: the one in `models.yaml`. `none` leaves it in the text.",
    )
    chat_template: Word | None = Field(
        default=None,
        description="Path of a Jinja file in the image; default: the one in `models.yaml`, if any.",
    )
    extra_args: tuple[Word, ...] = _list((), "Further arguments of `vllm serve`, one word an entry.")
    hf_token_secret_arn: SecretArn | None = Field(
        default=None,
        description="Secrets Manager secret that holds a Hugging Face token; gated models need one.",
    )


class Gpu(Section):
    """The machines that the engine runs on, and its share of them."""

    instance_types: tuple[InstanceType, ...] = _list(
        ("g5.xlarge",), "Instance types, the preferred one first; all must fit.", min_length=1
    )
    gpus_per_task: int = Field(
        default=1, ge=1, le=16, description="GPUs that one engine uses: vLLM's tensor parallel size."
    )
    replicas: int = Field(default=1, ge=1, le=100, description="Engines that run side by side.")
    spare_instance: bool = Field(
        default=False,
        description="Room for one engine more, so that a release leaves no gap; costs an instance.",
    )
    capacity: Literal["on_demand", "spot"] = Field(
        default="on_demand",
        description="How instances are bought; AWS may take a `spot` one back at any time.",
    )
    root_volume_gib: int = Field(
        default=100, ge=8, le=16384, description="Size of the root volume in GiB, which holds the images."
    )
    task_memory_mib: int | None = Field(
        default=None,
        ge=4096,
        description="Memory of an engine in MiB; default: what the instance has for it.",
    )
    shm_mib: int | None = Field(
        default=None, ge=64, description="Its /dev/shm in MiB, beside that memory; default: 1024 a GPU."
    )
    startup_seconds: int = Field(
        default=900,
        ge=60,
        le=3300,
        description="Time an engine has to fetch and load the model; then it is replaced.",
    )


class Orchestrator(Section):
    """The Fargate service that clients talk to."""

    cpu: int = Field(default=1024, description="CPU of a task; 1024 is one vCPU.")
    memory_mib: int = Field(
        default=2048, description="Memory of a task in MiB; Fargate has fixed pairs of it and `cpu`."
    )
    architecture: Literal["x86_64", "arm64"] = Field(
        default="x86_64", description="CPU architecture of the tasks."
    )
    min_tasks: int = Field(default=3, ge=1, le=1000, description="Fewest tasks.")
    max_tasks: int = Field(default=10, ge=1, le=1000, description="Most tasks.")
    target_cpu_percent: int = Field(
        default=60, ge=10, le=90, description="Mean CPU use that the number of tasks is held to."
    )
    request_timeout_seconds: int = Field(
        default=300, ge=1, le=3600, description="Deadline of a whole request, with all its tool calls."
    )
    stop_timeout_seconds: int = Field(
        default=120,
        ge=30,
        le=120,
        description="Time a task has to finish its requests when it is told to stop.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level logged."
    )


class Tools(Section):
    """The tools that the orchestrator runs for the model."""

    modules: tuple[Word, ...] = _list((), "Python modules in the image whose public functions are tools too.")
    attach: tuple[Word, ...] = _list((), "Tools added to requests that bring none; `all` adds every one.")
    max_rounds: int = Field(default=8, ge=1, le=100, description="Rounds of tool calls in one request.")
    timeout_seconds: int = Field(default=10, ge=1, le=3600, description="Time a tool has for one call.")
    rescue: Literal["never", "end_of_turn"] | None = Field(
        default=None,
        description="Whether a call that the engine left in the text is run where it ends a turn; default: "
        "never for parsers that are known to work.",
    )
    weather_source: Literal["open-meteo", "sample"] = Field(
        default="open-meteo", description="Where weather comes from; `sample` is a table of climate averages."
    )
    database_url_secret_arn: SecretArn | None = Field(
        default=None, description="Secret that holds the `postgresql://` URL; without one, a SQLite sample."
    )
    database_tables: tuple[Word, ...] = _list((), "Tables that query_database may read.")


class Ingress(Section):
    """How clients reach the orchestrator."""

    scheme: Literal["public", "internal"] = Field(
        default="public",
        description="Whether the load balancer is reached from the internet or from the VPC only.",
    )
    certificate_arn: CertificateArn | None = Field(
        default=None, description="Certificate in ACM; without it and without a zone, deploying asks for one."
    )
    domain: Domain | None = Field(default=None, description="Name that clients use, e.g. llm.example.com.")
    hosted_zone_id: HostedZoneId | None = Field(
        default=None, description="Route 53 zone of the domain, for its alias record and certificate."
    )
    cloudfront: bool = Field(
        default=False, description="HTTPS without a domain: CloudFront in front of the load balancer."
    )
    allowed_cidrs: tuple[Ipv4Network, ...] = _list(
        ("0.0.0.0/0",), "IPv4 networks that may connect.", min_length=1
    )
    waf: bool = Field(default=False, description="AWS WAF in front, with a limit of requests an address.")
    waf_requests_per_5_minutes: int = Field(
        default=2000,
        ge=10,
        le=2_000_000_000,
        description="That limit: requests of one address in five minutes.",
    )
    access_logs: bool = Field(default=False, description="Log every request in an S3 bucket.")
    idle_timeout_seconds: int = Field(
        default=900, ge=1, le=4000, description="Silence after which the load balancer closes a connection."
    )
    deregistration_delay_seconds: int = Field(
        default=330, ge=0, le=3600, description="Time that requests under way have when a task is taken away."
    )

    @model_validator(mode="after")
    def _zone_and_domain(self) -> Self:
        if self.hosted_zone_id and not self.domain:
            raise ValueError("hosted_zone_id without domain: set ingress.domain to a name in that zone")
        if self.domain and not (self.hosted_zone_id or self.certificate_arn):
            raise ValueError("domain without hosted_zone_id or certificate_arn: set one of them")
        return self


class Images(Section):
    """Where the container images are built."""

    build: Literal["in_account", "local"] = Field(
        default="in_account", description="`in_account` by CodeBuild while deploying, `local` by your Docker."
    )


class Logs(Section):
    """What is kept of what was logged."""

    retention_days: Annotated[int, AfterValidator(_retention)] = Field(
        default=30, description="Days that log lines are kept."
    )


class Metrics(Section):
    """What is measured, and who is told."""

    container_insights: bool = Field(
        default=False, description="CloudWatch Container Insights; each metric costs."
    )
    alarm_email: Email | None = Field(default=None, description="Address that alarms are sent to.")
    scraper_security_group: SecurityGroupId | None = Field(
        default=None, description="Security group of a Prometheus of yours that may read `/metrics`."
    )
