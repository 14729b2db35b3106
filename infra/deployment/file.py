"""The deployment file as typed settings.

`load_deployment` reads a file and rejects unknown settings and invalid values. `checks` finds values that do
not work together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .gpu_settings import Gpu
from .model_settings import MAIN, Model, ModelEntry
from .settings import (
    ExistingVpc,
    Images,
    Ingress,
    Limits,
    Logs,
    Metrics,
    Network,
    Orchestrator,
)
from .tool_settings import Tools
from .values import EXAMPLES, Name, PolicyArn, Region, Section, ShortName, Tags
from .yaml_lines import Place, YamlError, YamlSource, read_yaml

__all__ = [
    "Deployment",
    "DeploymentError",
    "ExistingVpc",
    "Gpu",
    "Images",
    "Ingress",
    "Limits",
    "Logs",
    "Metrics",
    "Model",
    "Network",
    "Orchestrator",
    "Section",
    "Setting",
    "Tools",
    "load_deployment",
    "settings",
]


CLOUDFRONT_REGION = "us-east-1"
"""The region in which everything that belongs to CloudFront is created."""


class DeploymentError(Exception):
    """The deployment file is invalid. One line per problem: `file:line: setting: value: what is allowed`."""


class Deployment(Section):
    """One deployment of Tandem."""

    name: Name = Field(
        default="tandem",
        description="Prefix of every stack; at most 20 lower-case letters, digits and dashes.",
    )
    region: Region | None = Field(
        default=None, description="AWS region. Default: the region of your credentials."
    )
    tags: Tags = Field(default={}, description="Tags to add to every resource.")
    removal_policy: Literal["destroy", "retain"] = Field(
        default="destroy", description="What `cdk destroy` does with images, keys and logs."
    )
    permissions_boundary_arn: PolicyArn | None = Field(
        default=None, description="Managed policy that limits every role of the deployment."
    )
    network: Network = Network()
    model: Model = Model()
    gpu: Gpu = Gpu()
    models: dict[ShortName, ModelEntry] = Field(
        default={},
        description="Several models instead of `model` and `gpu`: short name to the settings of both, see "
        "`models.NAME`.",
    )
    orchestrator: Orchestrator = Orchestrator()
    tools: Tools = Tools()
    ingress: Ingress = Ingress()
    limits: Limits = Limits()
    images: Images = Images()
    logs: Logs = Logs()
    metrics: Metrics = Metrics()

    _source: YamlSource | None = PrivateAttr(None)
    _entry: str = PrivateAttr("")

    @model_validator(mode="after")
    def _first_entry(self) -> Self:
        """Makes `model` and `gpu` those of the first entry, for what concerns no other."""
        if self.models:
            self._entry, entry = next(iter(self.models.items()))
            for name, section in (("model", entry.as_model), ("gpu", entry.as_gpu)):
                object.__setattr__(self, name, section)  # frozen from here on
        return self

    @property
    def entry(self) -> str:
        """The name of the entry of `models` that `model` and `gpu` are; "" without `models`."""
        return self._entry

    @property
    def is_main(self) -> bool:
        """Whether the entry has the names of a deployment with one model."""
        return self._entry in ("", MAIN)

    @property
    def entries(self) -> tuple[Deployment, ...]:
        """The deployment as each of its models sees it: `model` and `gpu` are those of the entry."""
        return tuple(self._seen_by(name) for name in self.models) or (self,)

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The instance types of all models, each once."""
        return tuple(dict.fromkeys(name for one in self.entries for name in one.gpu.instance_types))

    def _seen_by(self, name: str) -> Deployment:
        entry = self.models[name]
        seen = self.model_copy(update={"model": entry.as_model, "gpu": entry.as_gpu})
        seen._entry = name
        return seen

    def in_file(self, text: str) -> str:
        """Returns a text with settings such as `gpu.replicas` written as `models.NAME.replicas`."""
        return _SETTING.sub(rf"models.{self._entry}.\1", text) if self._entry else text

    def where(self, setting: str) -> str:
        """Returns `file:line: ` of a setting such as `gpu.replicas`; "" if the deployment has no file."""
        place = tuple(int(part) if part.isdecimal() else part for part in setting.split("."))
        return f"{self._source.where(place)}: " if self._source else ""

    @property
    def served_model(self) -> str:
        """The name that clients use for the model."""
        return self.model.served_name or self.model.id

    @property
    def has_firewall(self) -> bool:
        """Whether AWS WAF stands in front. A firewall of CloudFront can only be created in us-east-1."""
        ingress = self.ingress
        if ingress.waf is not None:
            return ingress.waf
        return ingress.scheme == "public" and (not ingress.cloudfront or self.region == CLOUDFRONT_REGION)

    def with_setting(self, setting: str, value: object) -> Deployment:
        """Returns a copy with one setting, such as `gpu.replicas`, changed.

        Raises:
            pydantic.ValidationError: The setting is unknown or the value is invalid.
        """
        *section, name = setting.split(".")
        if not section:
            changed = Deployment.model_validate(self.model_dump() | {name: value})
            changed._source = self._source
            return changed._seen_by(self._entry) if self._entry in changed.models else changed
        if self._entry and section[0] in ("model", "gpu"):
            section = ["models", self._entry]
        if section[0] == "models":
            entry = ModelEntry.model_validate(self.models[section[1]].model_dump() | {name: value})
            changed = self.model_copy(update={"models": self.models | {section[1]: entry}})
            return changed._seen_by(self._entry)
        part: Section = getattr(self, section[0])
        return self.model_copy(
            update={section[0]: type(part).model_validate(part.model_dump() | {name: value})}
        )


_SETTING = re.compile(rf"\b(?:model|gpu)\.({'|'.join([*Model.model_fields, *Gpu.model_fields])})\b")
"""A setting of a model or its instances in a message."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: its path, such as `gpu.replicas`, and its field."""

    path: str
    field: FieldInfo


def settings(section: type[Section] = Deployment, prefix: str = "") -> Iterator[Setting]:
    """Yields every setting, in the order of the file."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from settings(field.annotation, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, field)


def load_deployment(path: Path) -> Deployment:
    """Reads a deployment file. Settings that it omits have their defaults.

    Raises:
        DeploymentError: The file cannot be read or is invalid. The message lists every problem.
    """
    try:
        source = read_yaml(path)
        deployment = Deployment.model_validate(source.data)
    except YamlError as error:
        raise DeploymentError(str(error)) from None
    except ValidationError as error:
        problems = sorted(error.errors(include_url=False), key=lambda problem: source.line(problem["loc"]))
        raise DeploymentError("\n".join(_describe(problem, source) for problem in problems)) from None
    deployment._source = source
    _check_one_form(deployment, source)
    return deployment


def _check_one_form(deployment: Deployment, source: YamlSource) -> None:
    both = [name for name in ("model", "gpu") if name in source.data] if deployment.models else []
    if both:
        names = " and ".join(both)
        raise DeploymentError(
            f"{source.where((both[0],))}: {both[0]}: the file has models as well; move the settings of "
            f"{names} to an entry of models and delete {names}. The entry {MAIN} keeps today's engines"
        )


def _describe(problem: ErrorDetails, source: YamlSource) -> str:
    place: Place = tuple(part for part in problem["loc"] if part != "[key]")
    setting = _path(place) or "the file"
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        problem_text = f"unknown setting{_nearest(place)}"
    elif kind == "missing":
        problem_text = "is required"
    else:
        shown = "" if isinstance(value, dict) else f"{value!r}: "
        problem_text = shown + _allowed(problem)
    return f"{source.where(place)}: {setting}: {problem_text}"


def _allowed(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "string_pattern_mismatch":
            return f"must look like {EXAMPLES[problem['ctx']['pattern']]}"
        case "string_type":
            return "must be text; put it in quotes"
        case "tuple_type":
            return "must be a list, such as [one, two]"
        case "model_type" | "dict_type":
            return "must be a section of names and values"
    return problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _path(place: Place) -> str:
    return ".".join(text if (text := str(part)).isprintable() else repr(part) for part in place)


def _nearest(place: Place) -> str:
    wanted, name = _path(place), str(place[-1])
    paths = [setting.path for setting in settings()] + list(Deployment.model_fields)
    if place[0] == "models":
        paths = [f"models.{place[1]}.{field}" for field in ModelEntry.model_fields]
    homonyms = [path for path in paths if path.rsplit(".", 1)[-1] == name]
    near = homonyms or difflib.get_close_matches(wanted, paths, n=1, cutoff=0.7)
    return (
        f"; did you mean {' or '.join(near)}?"
        if near
        else "; docs/deployment-reference.md lists all settings"
    )
