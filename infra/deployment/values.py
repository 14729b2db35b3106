"""The types of settings and sections: what a value must look like, with an example for error messages."""

from __future__ import annotations

import ipaddress
from pathlib import PurePosixPath
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .cron import parse_cron


def _ipv4_network(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"must be an IPv4 network such as 10.0.0.0/16: {error}") from None
    return str(network)


def _vpc_network(value: str) -> str:
    network = ipaddress.IPv4Network(_ipv4_network(value))
    if not 16 <= network.prefixlen <= 24:
        raise ValueError("must be a network between /16 and /24, e.g. 10.0.0.0/16")
    return str(network)


# fmt: off
RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)
# fmt: on


def _retention(days: int) -> int:
    if days not in RETENTION_DAYS:
        nearest = min(RETENTION_DAYS, key=lambda allowed: abs(allowed - days))
        raise ValueError(f"CloudWatch Logs does not support this retention period; nearest: {nearest}")
    return days


def _tags(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if key.lower().startswith("aws:") or not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(
                f"invalid tag {key!r}: keys have 1 to 128 characters and do not start with aws:, values "
                "have at most 256 characters"
            )
    return tags


def _cron(text: str) -> str:
    parse_cron(text)
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone such as Europe/Berlin, America/New_York or UTC") from None
    return name


def _path(path: str) -> str:
    if not path.isprintable():
        raise ValueError("must be a path such as services/tools, without control characters")
    if len(path) > 1024 or any(len(part.encode()) > 255 for part in PurePosixPath(path).parts):
        raise ValueError(
            f"is too long with {len(path):,} characters: a path has at most 1,024, and a name in it 255 bytes"
        )
    return path


EXAMPLES: dict[str, str] = {}
"""An example value for each pattern, for error messages."""


def _name(pattern: str, example: str) -> StringConstraints:
    EXAMPLES[pattern] = example
    return StringConstraints(pattern=pattern)


_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=+-]+)*"
_REPO = r"[A-Za-z0-9][\w.-]*/[\w.-]+"

Tags = Annotated[dict[str, str], AfterValidator(_tags)]
Ipv4Network = Annotated[str, AfterValidator(_ipv4_network)]
VpcNetwork = Annotated[str, AfterValidator(_vpc_network)]
RetentionDays = Annotated[int, AfterValidator(_retention)]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_path)]
Name = Annotated[str, _name(r"^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", "tandem-dev")]
Word = Annotated[str, _name(r"^\S+$", "a word without spaces")]
ModelSource = Annotated[
    str,
    _name(rf"^(hub|mirror|{_S3})$", "hub, mirror or s3://bucket/prefix"),
]
ShortName = Annotated[str, StringConstraints(max_length=16), _name(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "small")]
ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
AdapterName = Annotated[str, _name(ADAPTER_NAME, "support-tone")]
AdapterSource = Annotated[
    str,
    _name(rf"^({_S3}/?|{_REPO})$", "s3://bucket/prefix, or owner/name on the Hugging Face Hub"),
]
AdapterPrefix = Annotated[str, _name(rf"^{_S3}/?$", "s3://bucket/prefix")]
RepoId = Annotated[str, _name(rf"^{_REPO}$", "Qwen/Qwen2.5-7B-Instruct")]
Region = Annotated[str, _name(r"^[a-z]{2,}(-[a-z]+)+-\d$", "us-east-1")]
Zone = Annotated[str, _name(r"^[a-z]{2,}(-[a-z]+)+-\d[a-z]$", "us-east-1a")]
Ami = Annotated[str, _name(r"^(recommended|ami-[0-9a-f]{8,17})$", "recommended or ami-0123456789abcdef0")]
InstanceType = Annotated[str, _name(r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", "g5.xlarge")]
VpcId = Annotated[str, _name(r"^vpc-[0-9a-f]{8,17}$", "vpc-0123456789abcdef0")]
SubnetId = Annotated[str, _name(r"^subnet-[0-9a-f]{8,17}$", "subnet-0123456789abcdef0")]
SecurityGroupId = Annotated[str, _name(r"^sg-[0-9a-f]{8,17}$", "sg-0123456789abcdef0")]
HostedZoneId = Annotated[str, _name(r"^Z[A-Z0-9]{5,31}$", "Z0123456789ABCDEFGHIJ")]
Domain = Annotated[str, _name(r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$", "llm.example.com")]
Origin = Annotated[
    str, _name(r"^(\*|[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+)$", "https://app.example.com, or * for all")
]
HttpsUrl = Annotated[
    str,
    StringConstraints(max_length=256),
    _name(r"^https://[a-z0-9.-]+(:\d+)?(/\S*)?$", "https://login.example.com/"),
]
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
        r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}$",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:hf-token-AbCdEf",
    ),
]
PolicyArn = Annotated[
    str,
    _name(
        r"^arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+$",
        "arn:aws:iam::123456789012:policy/tools",
    ),
]
TopicArn = Annotated[
    str,
    _name(
        r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+$", "arn:aws:sns:us-east-1:123456789012:alarms"
    ),
]
SlackWorkspace = Annotated[str, _name(r"^[0-9A-Z]{1,255}$", "T0123456789")]
SlackChannel = Annotated[str, _name(r"^[A-Za-z0-9]{9,}$", "C0123456789")]
Cron = Annotated[str, AfterValidator(_cron)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Variable = Annotated[str, _name(r"^[A-Z_][A-Z0-9_]*$", "CRM_URL")]
McpName = Annotated[str, _name(r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$", "docs")]
McpUrl = Annotated[
    str, _name(r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?$", "https://mcp.example.com/mcp")
]
HeaderName = Annotated[str, _name(r"^[A-Za-z0-9-]+$", "Authorization")]
Action = Annotated[str, _name(r"^[a-z0-9-]+:[A-Za-z0-9]+$", "s3:GetObject")]
ResourceArn = Annotated[str, _name(r"^(\*|arn:aws[a-z-]*:\S+)$", "arn:aws:s3:::documents/*")]
Email = Annotated[str, _name(r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "someone@example.com")]


def yaml_list(default: tuple[Any, ...], description: str, **limits: Any) -> Any:
    """A field for a list, which YAML gives and strict mode would not convert to a tuple."""
    return Field(default, description=description, strict=False, **limits)


class Section(BaseModel):
    """A section of the deployment file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: Any) -> Any:
        return {} if data is None else data
