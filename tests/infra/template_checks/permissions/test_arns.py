"""Values of the references of a template."""

from __future__ import annotations

from typing import Any

import pytest

from infra.template_checks.permissions.arns import Arns
from infra.template_checks.template import Assembly
from tests.infra.synthesis import plan_of

FOUNDATION = {
    "Resources": {"Key": {"Type": "AWS::SecretsManager::Secret"}, "Logs": {"Type": "AWS::Logs::LogGroup"}},
    "Outputs": {"Key": {"Value": {"Ref": "Key"}, "Export": {"Name": "the-key"}}},
}
SERVING = {
    "Resources": {
        "Images": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "tandem/vllm"}},
        "Topic": {"Type": "AWS::SNS::Topic"},
    }
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"Ref": "AWS::AccountId"}, "111122223333"),
        ({"Ref": "Images"}, "tandem/vllm"),
        ({"Fn::GetAtt": ["Images", "Arn"]}, "arn:aws:ecr:us-east-1:111122223333:repository/tandem/vllm"),
        ({"Ref": "Topic"}, "arn:aws:sns:us-east-1:111122223333:Topic"),
        ({"Fn::ImportValue": "the-key"}, "arn:aws:secretsmanager:us-east-1:111122223333:secret:Key-AbCdEf"),
        ({"Fn::Sub": "a-${AWS::Region}-${Images}"}, "a-us-east-1-tandem/vllm"),
        ({"Fn::Sub": "${Images.Arn}"}, "arn:aws:ecr:us-east-1:111122223333:repository/tandem/vllm"),
        ({"Fn::Join": ["-", ["a", {"Ref": "AWS::Partition"}]]}, "a-aws"),
        ({"Fn::Select": [1, {"Fn::Split": ["/", {"Ref": "Images"}]}]}, "vllm"),
        ({"Fn::Select": [9, {"Fn::Split": ["/", {"Ref": "Images"}]}]}, "Select-of-serving"),
        ({"Fn::ImportValue": "not-exported"}, "ImportValue-of-serving"),
        ({"Ref": "CertificateArn"}, "CertificateArn"),
    ],
    ids=str,
)
def test_reference_comes_to(value: Any, text: str) -> None:
    assembly = Assembly({"foundation": FOUNDATION, "serving": SERVING}, plan_of("default"))
    assert Arns(assembly).text("serving", value) == text


def test_references_inside_a_statement_are_replaced() -> None:
    assembly = Assembly({"foundation": FOUNDATION, "serving": SERVING}, plan_of("default"))
    resolved = Arns(assembly).resolve("serving", {"Effect": "Allow", "Resource": [{"Ref": "Topic"}]})
    assert resolved == {"Effect": "Allow", "Resource": ["arn:aws:sns:us-east-1:111122223333:Topic"]}
