"""A tool of the user's own: deployed with a package, a secret and a permission, and called."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from .emulator import ACCOUNT, REGION, Emulator
from .expectations import same
from .project import Project
from .services import DeployedServices
from .steps import saw, step

_DIRECTORY = "services/orchestrator/tools"
_MODULE = '''
"""What the carrier has."""

import os

import boto3
import humanize

TOKEN = os.environ["CARRIER_TOKEN"]


def parcel_report() -> dict[str, str]:
    """Report how many parcels the carrier has."""
    limit = boto3.client("ssm").get_parameter(Name=os.environ["LIMIT"])["Parameter"]["Value"]
    return {"limit": humanize.intcomma(limit), "token": TOKEN[:3], "carrier": os.environ["CARRIER_URL"]}
'''
# humanize is on PyPI, depends on nothing, and is not among the packages of the image.
_HASH = "sha256:02d0899527760efe18011944f882df4970943b4cdff7b5a0ba7fed43a576ef98"
_REQUIREMENTS = f"humanize==4.17.0 --hash={_HASH}\n"
_PARAMETER, _OTHER_PARAMETER = "/parcels/limit", "/payroll"
_OF_THE_FILE = ("deployment file", "tools", "secrets", "permissions")
_URL = "https://carrier.example.com"


class OwnTool:
    """The steps with the tool. `deploy` runs `make deploy`."""

    def __init__(self, emulator: Emulator, project: Project, deploy: Callable[[], object]) -> None:
        self._emulator = emulator
        self._project = project
        self._deploy = deploy

    def prepare(self) -> None:
        """Makes what doctor has to find, one thing after the other, and then what it accepts."""
        project = self._project
        with step("doctor: a tool that would stop the orchestrator, before anything is built"):
            arn = self._in_account()
            project.write(f"{_DIRECTORY}/parcels.py", _MODULE)
            project.change_setting("  modules: [] ", "  modules: [parcel] ")
            self._finds("there is no module parcel", "nearest: parcels")
            project.change_setting("  modules: [parcel] ", "  modules: [parcels] ")
            project.write(f"{_DIRECTORY}/requirements.txt", _REQUIREMENTS)
            project.change_setting("  requirements: null ", f"  requirements: {_DIRECTORY}/requirements.txt ")
            self._finds("KeyError: 'CARRIER_TOKEN'")
            project.change_setting(
                "  secrets: {} ", f"  secrets: {{CARRIER_TOKEN: {{arn: {arn}, json_key: token}}}} "
            )
            project.change_setting("  attach: [] ", "  attach: [parcel_reprt] ")
            self._finds("did you mean parcel_report?")
            project.change_setting("  attach: [parcel_reprt] ", "  attach: [] ")
            variables = f"  environment: {{CARRIER_URL: '{_URL}', LIMIT: {_PARAMETER}}}  # Environment"
            project.change_setting("  environment: {}  # Environment", variables)
            wanted = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{_PARAMETER}"
            statement = f"  statements: [{{actions: ['ssm:GetParameter'], resources: ['{wanted}']}}] "
            project.change_setting("  statements: [] ", statement)
            project.change_setting("  egress: []", "  egress: [{port: 6379, cidr: 10.0.0.0/16}]")
            self._boundaries()
            results = self._doctor()
            same([one for one in results if one["status"] != "ok"], [], "findings about the file")
            (tools,) = (one["found"] for one in results if one["subject"] == "tools")
            saw(f"then: {tools}")

    def release(self, changed: Callable[[Callable[[], object]], list[str]]) -> None:
        """Deploys the tool."""
        with step("make deploy of the tool: with a package, a secret, a permission and a connection"):
            names = sorted(changed(self._deploy))
            same(
                [name for name in names if "ngine" in name or "vllm" in name],
                [],
                "what changed of the engine",
            )
            saw(f"changed: {', '.join(name.partition('sg-')[0].strip() for name in names)}")

    def call(self, services: DeployedServices, key: str) -> None:
        """Asks for the tool through the load balancer."""
        with step("The tool is called"):
            body = {
                "messages": [{"role": "user", "content": "Give me the parcel report"}],
                "tools": [{"type": "function", "function": {"name": "parcel_report"}}],
                "tandem": {"events": True},
            }
            headers = {"authorization": f"Bearer {key}"}
            with httpx.Client(verify=services.balancer.tls, headers=headers, timeout=60) as client:
                answer = client.post(f"{services.url}/chat/completions", json=body).json()
            expected = {"limit": "5,000,000", "token": "t0k", "carrier": _URL}
            assert json.dumps(expected, separators=(",", ":")) in _results(answer), answer
            saw(f"it used its package, its secret, its variable and its permission: {expected}")
            role = self._emulator.role("OrchestratorTaskTaskRole")
            parameters = self._emulator.client("ssm", role=role)
            try:
                parameters.get_parameter(Name=_OTHER_PARAMETER)
            except parameters.exceptions.ClientError as error:
                same(error.response["Error"]["Code"], "AccessDeniedException", "the error")
                saw("its role may read no other parameter")
            else:
                raise AssertionError(f"the tool may read {_OTHER_PARAMETER}")

    def forget(self) -> None:
        """Removes what the account has for the tool, once nothing uses it."""
        self._emulator.client("secretsmanager").delete_secret(
            SecretId="carrier", ForceDeleteWithoutRecovery=True
        )
        for name in (_PARAMETER, _OTHER_PARAMETER):
            self._emulator.client("ssm").delete_parameter(Name=name)

    def _in_account(self) -> str:
        """Makes the secret and the parameters that a user would have; returns the secret's ARN."""
        for name, value in ((_PARAMETER, "5000000"), (_OTHER_PARAMETER, "1")):
            self._emulator.client("ssm").put_parameter(Name=name, Value=value, Type="String")
        created = self._emulator.client("secretsmanager").create_secret(
            Name="carrier", SecretString=json.dumps({"token": "t0k3n", "user": "tandem"})
        )
        return str(created["ARN"])

    def _boundaries(self) -> None:
        """Names a permissions boundary, first one that does not exist."""
        setting = "permissions_boundary_arn:"
        missing = f"arn:aws:iam::{ACCOUNT}:policy/no-such-policy"
        self._project.change_setting(f"{setting} null ", f"{setting} {missing} ")
        self._finds("no-such-policy does not exist")
        document = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
        }
        created = self._emulator.client("iam").create_policy(
            PolicyName="developers", PolicyDocument=json.dumps(document)
        )
        arn = created["Policy"]["Arn"]
        self._project.change_setting(f"{setting} {missing} ", f"{setting} {arn} ")

    def _doctor(self) -> list[dict[str, Any]]:
        """What doctor reports of the file; of the rest it reports that nothing runs in an emulator."""
        results = json.loads(self._project.ops("doctor", "--json", status=1))["results"]
        return [one for one in results if one["subject"] in _OF_THE_FILE]

    def _finds(self, *texts: str) -> None:
        found = [one for one in self._doctor() if one["status"] == "error"]
        result = next((one for one in found if any(text in one["found"] for text in texts)), None)
        assert result, f"doctor does not report {texts}: {found}"
        saw(f"{result['subject']}: {result['found']}")


def _results(answer: dict[str, Any]) -> str:
    """The results of the tool calls in an answer with events, as one text without escapes."""
    return json.dumps(answer.get("tandem", {}).get("events", [])).replace('\\"', '"')
