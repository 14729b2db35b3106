"""Real boto3 clients with scripted answers. Requests and answers are validated against AWS's own models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.validate import validate_parameters

from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops.account import Account
from tests.infra.deployment.checks.broken_deployments import deployment

ARN = "arn:aws:iam::123456789012:user/tester"
DENIED = "AccessDenied"


class Refused(Exception):
    """A scripted answer that is an AWS error, with its code."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message or code


Answer = Mapping[str, Any] | Refused | Callable[[Mapping[str, Any]], Any]


def roles_without(*absent: str) -> Answer:
    """IAM's GetRole, which has every role but these."""

    def answer(params: Mapping[str, Any]) -> Any:
        name = params["RoleName"]
        if name in absent:
            raise Refused("NoSuchEntity")
        role = {"Path": "/", "RoleName": name, "RoleId": "AROA0123456789ABCDEF"}
        arn = f"arn:aws:iam::123456789012:role/{name}"
        return {"Role": {**role, "Arn": arn, "CreateDate": datetime(2026, 1, 1, tzinfo=UTC)}}

    return answer


class ScriptedAws:
    """Answers calls by `service.Operation`; calls without a scripted answer are denied."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str, *, region: str | None = None) -> Any:
        client = boto3.client(
            service,  # type: ignore[call-overload]
            region_name=region or "us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

        def remember(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.calls.append((f"{service}.{model.name}", dict(params)))

        def answer(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self._answer(service, model)

        client.meta.events.register("before-parameter-build", remember)
        client.meta.events.register("before-call", answer)
        return client

    def _answer(self, service: str, model: Any) -> tuple[Any, dict[str, Any]]:
        name = f"{service}.{model.name}"
        answer = self.answers.get(name, Refused(DENIED))
        if callable(answer):
            parameters = next(params for called, params in reversed(self.calls) if called == name)
            try:
                answer = answer(parameters)
            except Refused as refused:
                answer = refused
        if isinstance(answer, Refused):
            error = {"Error": {"Code": answer.code, "Message": answer.message}}
            return SimpleNamespace(status_code=400), error
        if model.output_shape is not None:
            validate_parameters(answer, model.output_shape)
        return SimpleNamespace(status_code=200), {**answer, "ResponseMetadata": {"HTTPStatusCode": 200}}


class ScriptedAccount(Account):
    """An account with a scripted AWS."""

    def __init__(self, aws: ScriptedAws, settings: Deployment) -> None:
        super().__init__(Plan(settings, load_catalog()))
        self.aws = aws

    def client(self, service: str, *, region: str | None = None) -> Any:
        return self.aws.client(service, region=region)


def account(answers: Mapping[str, Answer], **settings: object) -> ScriptedAccount:
    """Builds an account with these answers and settings, whose names have `__` for the dot."""
    return ScriptedAccount(ScriptedAws(answers), deployment(region="us-east-1", **settings))
