"""Rotates the key that the orchestrator presents to the engines, while both keep serving.

The secret holds one key, or two during a rotation. Engines accept the first. Orchestrators present the first
and, if an engine rejects it, the second. The version before the current one shows how far a rotation is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from .account import Account, Failed, code_of, translated
from .engines import engine_services

_VARIABLE = "VLLM_API_KEY"
_LONGEST_ROLLOUT = {"Delay": 15, "MaxAttempts": 240}  # an hour


class EngineKey:
    """The secret and the two services that read it when their tasks start."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._outputs = account.outputs()
        self._ecs = account.client("ecs")
        self._secrets = account.client("secretsmanager")
        self._engines = engine_services(account)
        self._arn = self._secret()

    def rotate(self, report: Callable[[str], None]) -> None:
        """Rotates the key, or continues a rotation that was interrupted.

        Raises:
            Failed: A rollout did not finish.
        """
        current, previous = self._read("AWSCURRENT"), self._read("AWSPREVIOUS")
        if len(current) == 1:
            current, previous = [*current, secrets.token_urlsafe(36)], current
            self._write(current)
        if len(previous) != 2:
            report("1 of 2: replacing the orchestrators, which then know both keys. No request is lost.")
            self._roll_out(self._outputs["ClusterName"], self._outputs["OrchestratorService"])
            current.reverse()
            self._write(current)
        report("2 of 2: replacing the engines, which then accept the new key only.")
        for one in self._engines:
            self._roll_out(one.cluster, one.service)
        self._write(current[:1])

    def _secret(self) -> str:
        """Returns the ARN of the secret that the engine's tasks read."""
        cluster, service = self._engines[0].cluster, self._engines[0].service
        with translated():
            found = self._ecs.describe_services(cluster=cluster, services=[service])["services"][0]
            task = self._ecs.describe_task_definition(taskDefinition=found["taskDefinition"])
        (container,) = task["taskDefinition"]["containerDefinitions"]
        return str(next(one["valueFrom"] for one in container["secrets"] if one["name"] == _VARIABLE))

    def _read(self, stage: str) -> list[str]:
        try:
            with translated():
                answer: Any = self._secrets.get_secret_value(SecretId=self._arn, VersionStage=stage)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            return []  # a secret with one version has none before it
        return str(answer["SecretString"]).split(",")

    def _write(self, keys: list[str]) -> None:
        with translated():
            self._secrets.put_secret_value(SecretId=self._arn, SecretString=",".join(keys))

    def _roll_out(self, cluster: str, service: str) -> None:
        with translated():
            self._ecs.update_service(cluster=cluster, service=service, forceNewDeployment=True)
        try:
            with translated():
                self._ecs.get_waiter("services_stable").wait(
                    cluster=cluster, services=[service], WaiterConfig=_LONGEST_ROLLOUT
                )
        except WaiterError as error:
            raise Failed(
                f"the rollout of {service} did not finish ({error}). Run make doctor; once the service is "
                "steady, run make keys ARGS=rotate-engine again, which continues from here"
            ) from None
