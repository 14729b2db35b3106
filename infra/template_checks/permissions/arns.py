"""Values for the references of a template, so that policies and requests can be compared before a deployment.

Names are invented: a resource without a name of its own is called by its logical id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..template import Assembly, Resource

ACCOUNT = "111122223333"
REGION = "us-east-1"

_PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "stack",
    "AWS::NoValue": "",
}
_HERE = f"{REGION}:{ACCOUNT}"
_ARNS = {
    "AWS::AutoScaling::AutoScalingGroup": (
        f"arn:aws:autoscaling:{_HERE}:autoScalingGroup:0:autoScalingGroupName/{{name}}"
    ),
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{_HERE}:alarm:{{name}}",
    "AWS::CodeBuild::Project": f"arn:aws:codebuild:{_HERE}:project/{{name}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{_HERE}:table/{{name}}",
    "AWS::ECR::Repository": f"arn:aws:ecr:{_HERE}:repository/{{name}}",
    "AWS::ECS::Cluster": f"arn:aws:ecs:{_HERE}:cluster/{{name}}",
    "AWS::ECS::Service": f"arn:aws:ecs:{_HERE}:service/cluster/{{name}}",
    "AWS::Events::Rule": f"arn:aws:events:{_HERE}:rule/{{name}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{_HERE}:function:{{name}}",
    # CloudFormation's attribute ends with `:*`, which stands for the streams of the group.
    "AWS::Logs::LogGroup": f"arn:aws:logs:{_HERE}:log-group:{{name}}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::SNS::Topic": f"arn:aws:sns:{_HERE}:{{name}}",
    "AWS::SecretsManager::Secret": f"arn:aws:secretsmanager:{_HERE}:secret:{{name}}-AbCdEf",
}
_NAMES = (
    "BucketName",
    "ClusterName",
    "FunctionName",
    "LogGroupName",
    "Name",
    "RepositoryName",
    "RoleName",
    "TableName",
)
_ARN_BY_REF = ("AWS::ECS::Service", "AWS::SNS::Topic", "AWS::SecretsManager::Secret")


class Arns:
    """What the references of the templates of a deployment come to."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def name(self, resource: Resource) -> str:
        """The name of a resource: the one that the template gives it, or its logical id."""
        given = (self.text(resource.template, resource.get(path)) for path in _NAMES if resource.get(path))
        return next(given, resource.logical_id)

    def arn(self, resource: Resource) -> str:
        """The ARN of a resource, as policies name it."""
        general = f"arn:aws:{resource.kind.split('::')[1].lower()}:{_HERE}:{{name}}"
        return _ARNS.get(resource.kind, general).format(name=self.name(resource))

    def text(self, template: str, value: Any) -> str:
        """A value of a template as the text that it comes to."""
        return str(self.resolve(template, value))

    def resolve(self, template: str, value: Any) -> Any:
        """A value of a template with all references replaced."""
        if isinstance(value, list):
            return [self.resolve(template, item) for item in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._call(template, function, argument)
        return {key: self.resolve(template, item) for key, item in value.items()}

    def _call(self, template: str, function: str, argument: Any) -> Any:
        result: Any = f"{function.removeprefix('Fn::')}-of-{template}"
        match function, argument:
            case "Ref", str(name):
                result = self._reference(template, name, None)
            case "Fn::GetAtt", [str(name), str(attribute)]:
                result = self._reference(template, name, attribute)
            case "Fn::Join", [str(separator), items]:
                result = separator.join(str(item) for item in self.resolve(template, items))
            case "Fn::Select", [index, items] if len(found := self.resolve(template, items)) > int(index):
                result = found[int(index)]
            case "Fn::Split", [str(separator), text]:
                result = self.text(template, text).split(separator)
            case "Fn::Sub", str(text):
                result = re.sub(r"\$\{([^}!]+)\}", lambda found: self._substitute(template, found[1]), text)
            case "Fn::ImportValue", str(name) if exported := self._assembly.exported(name):
                result = self.resolve(*exported)
        return result

    def _substitute(self, template: str, name: str) -> str:
        logical_id, _, attribute = name.partition(".")
        return str(self._reference(template, logical_id, attribute or None))

    def _reference(self, template: str, name: str, attribute: str | None) -> Any:
        if name in _PSEUDO:
            return _PSEUDO[name]
        resource = self._assembly.named(template, name)
        if resource is None:
            return name  # a parameter
        if attribute == "Arn" or (attribute is None and resource.kind in _ARN_BY_REF):
            return self.arn(resource)
        return self.name(resource) if attribute is None else f"{attribute}-of-{resource.logical_id}"
