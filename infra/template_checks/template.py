"""Synthesized templates as resources that refer to each other."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.deployment.plan import Plan


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource. Equality is by location: resources of the same name in two templates differ."""

    template: str
    logical_id: str
    kind: str = field(compare=False)
    properties: Mapping[str, Any] = field(compare=False, repr=False)
    depends_on: frozenset[str] = field(compare=False, repr=False)
    update_policy: Mapping[str, Any] = field(compare=False, repr=False)

    def get(self, path: str, default: Any = None) -> Any:
        """Returns a property by its path, such as `LaunchTemplateData.ImageId`."""
        value: Any = self.properties
        for name in path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return default
            value = value[name]
        return value

    def number(self, path: str, default: float) -> float:
        """Returns a numeric property, which templates may write as text."""
        return float(self.get(path, default))


class Assembly:
    """The templates of a deployment by file path, and the plan that they were made from."""

    def __init__(self, templates: Mapping[str, Mapping[str, Any]], plan: Plan) -> None:
        self.plan = plan
        self._resources: dict[tuple[str, str], Resource] = {}
        self._exports: dict[Any, tuple[str, Any]] = {}
        for path, template in templates.items():
            for logical_id, body in template.get("Resources", {}).items():
                self._resources[path, logical_id] = _resource(path, logical_id, body)
            for output in template.get("Outputs", {}).values():
                if "Export" in output:
                    self._exports[output["Export"]["Name"]] = (path, output["Value"])

    @classmethod
    def read(cls, paths: Iterable[str], plan: Plan) -> Assembly:
        """Reads template files."""
        return cls({path: json.loads(Path(path).read_text(encoding="utf-8")) for path in paths}, plan)

    def without(self, hidden: Collection[Resource], plan: Plan) -> Assembly:
        """Returns the templates without some resources, as another plan's."""
        left = Assembly({}, plan)
        left._resources = {place: one for place, one in self._resources.items() if one not in hidden}
        left._exports = self._exports
        return left

    def of_kind(self, kind: str) -> list[Resource]:
        """Returns all resources of a type such as `AWS::ECS::Service`."""
        return [resource for resource in self._resources.values() if resource.kind == kind]

    def all(self) -> Iterable[Resource]:
        """Returns every resource."""
        return self._resources.values()

    def target(self, template: str, value: Any) -> Resource | None:
        """Returns the resource that a reference refers to, also through exports; None for other values."""
        match value:
            case {"Ref": str(logical_id)}:
                return self._resources.get((template, logical_id))
            case {"Fn::GetAtt": [str(logical_id), _]}:
                return self._resources.get((template, logical_id))
            case {"Fn::ImportValue": str(name)} if name in self._exports:
                return self.target(*self._exports[name])
        return None

    def exported(self, name: str) -> tuple[str, Any] | None:
        """The template that exports a name, and the value; None if none does."""
        return self._exports.get(name)

    def named(self, template: str, logical_id: str) -> Resource | None:
        """The resource of a template with a logical id."""
        return self._resources.get((template, logical_id))

    def follow(self, resource: Resource, path: str) -> Resource | None:
        """Returns the resource that a property refers to."""
        return self.target(resource.template, resource.get(path))

    def targets(self, template: str, value: Any) -> set[Resource]:
        """Returns every resource that any part of a value refers to."""
        return {found for part in _parts(value) if (found := self.target(template, part)) is not None}

    def text(self, template: str, value: Any) -> str:
        """Returns a text as far as the template defines it, with references as `${logical id}`."""
        match value:
            case str() | int() | float():
                return str(value)
            case {"Fn::Join": [str(separator), list(items)]}:
                return separator.join(self.text(template, item) for item in items)
            case {"Fn::Base64": inner}:
                return self.text(template, inner)
            case {"Fn::ImportValue": str(name)} if name in self._exports:
                return self.text(*self._exports[name])
            case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), _]}:
                return f"${{{name}}}"
        return "${}"

    def missing_imports(self) -> Iterator[tuple[Resource, str]]:
        """Returns resources with imports that no template exports."""
        for resource in self.all():
            for part in _parts(resource.properties):
                match part:
                    case {"Fn::ImportValue": str(name)} if name not in self._exports:
                        yield resource, name


def container(task: Resource) -> Mapping[str, Any]:
    """Returns the one container of a task definition; empty if there is none."""
    containers = task.get("ContainerDefinitions") or [{}]
    first: Mapping[str, Any] = containers[0]
    return first


def environment(task: Resource) -> dict[str, Any]:
    """Returns the environment of a task's container, by name."""
    return {entry["Name"]: entry["Value"] for entry in container(task).get("Environment", [])}


def attributes(resource: Resource, path: str) -> dict[str, str]:
    """Returns attributes that a load balancer or target group lists as keys and values."""
    return {entry["Key"]: str(entry["Value"]) for entry in resource.get(path, [])}


def statements(resource: Resource) -> list[Mapping[str, Any]]:
    """Returns the statements of a role's or policy's own documents."""
    documents = [resource.get("PolicyDocument")]
    documents += [policy["PolicyDocument"] for policy in resource.get("Policies", [])]
    return [statement for document in documents if document for statement in document["Statement"]]


def listed(value: Any) -> list[Any]:
    """Returns a list for what IAM writes as a single value or a list."""
    return list(value) if isinstance(value, list) else [value]


def _resource(path: str, logical_id: str, body: Mapping[str, Any]) -> Resource:
    depends_on = frozenset(listed(body.get("DependsOn", [])))
    return Resource(
        path, logical_id, body["Type"], body.get("Properties", {}), depends_on, body.get("UpdatePolicy", {})
    )


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)
