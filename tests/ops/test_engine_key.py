"""The rotation of the engine's key: its order, and how it continues after an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ops.engine_key import EngineKey
from tests.ops.scripted_aws import Refused, ScriptedAccount, account

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:engine-AbCdEf"
OUTPUTS = {"ClusterName": "c", "EngineService": "engine", "OrchestratorService": "orchestrator"}


class Deployed:
    """The secret with its versions, and the services, whose tasks read it when they start."""

    def __init__(self) -> None:
        self.versions = ["one"]
        self.read: list[tuple[str, list[str]]] = []
        self.failing: str | None = None

    @property
    def account(self) -> ScriptedAccount:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
        stack = {"StackName": "x", "StackStatus": "CREATE_COMPLETE", "CreationTime": datetime.now(UTC)}
        container = {"secrets": [{"name": "VLLM_API_KEY", "valueFrom": ARN}]}
        steady = {"status": "ACTIVE", "desiredCount": 1, "runningCount": 1, "deployments": [{}]}
        return account(
            {
                "cloudformation.DescribeStacks": {"Stacks": [{**stack, "Outputs": outputs}]},
                "ecs.DescribeServices": {"services": [{**steady, "taskDefinition": "t"}]},
                "ecs.DescribeTaskDefinition": {"taskDefinition": {"containerDefinitions": [container]}},
                "ecs.UpdateService": self._update,
                "secretsmanager.GetSecretValue": self._get,
                "secretsmanager.PutSecretValue": self._put,
            }
        )

    def rotate(self) -> None:
        EngineKey(self.account).rotate(lambda _text: None)

    def _update(self, params: Mapping[str, Any]) -> Any:
        assert params["forceNewDeployment"] is True
        if params["service"] == self.failing:
            raise Refused("ServerException")
        self.read.append((params["service"], self.versions[-1].split(",")))
        return {"service": {}}

    def _get(self, params: Mapping[str, Any]) -> Any:
        assert params["SecretId"] == ARN
        stage = {"AWSCURRENT": 1, "AWSPREVIOUS": 2}[params["VersionStage"]]
        if stage > len(self.versions):
            raise Refused("ResourceNotFoundException")
        return {"SecretString": self.versions[-stage]}

    def _put(self, params: Mapping[str, Any]) -> Any:
        self.versions.append(params["SecretString"])
        return {"ARN": ARN}


def test_orchestrators_know_both_keys_before_an_engine_accepts_the_new_one() -> None:
    deployed = Deployed()
    deployed.rotate()
    new = deployed.versions[-1]
    assert len(new) >= 40
    assert deployed.read == [("orchestrator", ["one", new]), ("engine", [new, "one"])]
    deployed.rotate()
    assert deployed.versions[-1] not in ("one", new)
    assert [service for service, _ in deployed.read[2:]] == ["orchestrator", "engine"]


@pytest.mark.parametrize("failing", ["orchestrator", "engine"])
def test_interrupted_rotation_continues_with_the_same_key(failing: str) -> None:
    deployed = Deployed()
    deployed.failing = failing
    with pytest.raises(ClientError):
        deployed.rotate()
    keys = set(deployed.versions[-1].split(","))
    assert len(keys) == 2
    deployed.failing = None
    deployed.rotate()
    new = deployed.versions[-1]
    assert keys == {"one", new}
    assert deployed.read == [("orchestrator", ["one", new]), ("engine", [new, "one"])]
