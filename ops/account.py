"""The AWS account that a deployment file leads to: the one place that knows boto3's sessions and errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from infra.deployment.file import Deployment
from infra.deployment.plan import Plan

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
_NOT_KNOWN = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound)
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_REFUSED = {
    "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure",
    "InvalidAccessKeyId", "IncompleteSignature",
}  # fmt: skip
_NOT_ALLOWED = {
    "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError",
    "AccessDeniedFault", "UnauthorizedException",
}  # fmt: skip


class NoAccess(Exception):
    """AWS cannot be asked at all: no credentials, expired ones, no region, no network. Tells the fix."""


class NotAllowed(Exception):
    """The credentials may not do one thing; `action` is its name in IAM."""

    def __init__(self, action: str) -> None:
        super().__init__(f"no permission for {action}")
        self.action = action


class Failed(Exception):
    """AWS refused for another reason, or what was asked for cannot be done; the message tells why."""


@contextmanager
def translated() -> Iterator[None]:
    """Turns botocore's errors into the three above; `ClientError`s that mean something else are let through.

    Raises:
        NoAccess, NotAllowed: as they say.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _EXPIRED:
            raise NoAccess(
                "the credentials have expired: sign in again (aws sso login, for example)"
            ) from None
        if code in _REFUSED:
            raise NoAccess(
                f"AWS does not know these credentials ({code}): look at aws sts get-caller-identity"
            ) from None
        if code in _NOT_ALLOWED:
            raise NotAllowed(_action(error)) from None
        raise
    except (SSOError, TokenRetrievalError) as error:
        raise NoAccess(f"the sign-on has ended ({error}): aws sso login") from None
    except _NOT_KNOWN:
        raise NoAccess(
            "there are no AWS credentials: aws configure sso, or AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the environment"
        ) from None
    except NoRegionError:
        raise NoAccess("no region is known: set region in tandem.yaml, or AWS_REGION") from None
    except (HTTPClientError, ConnectionError) as error:
        raise NoAccess(f"AWS cannot be reached: {error}") from None


def _action(error: ClientError) -> str:
    """`ecs:DescribeServices`, from AWS's message or from the operation."""
    message = error.response.get("Error", {}).get("Message", "")
    _, _, after = message.partition("not authorized to perform: ")
    action = after.split(" ")[0].strip()
    return action if ":" in action else error.operation_name


def code_of(error: ClientError) -> str:
    """AWS's name of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@dataclass
class Stack:
    """One of the deployment's stacks as CloudFormation has it."""

    name: str
    status: str
    reason: str
    outputs: dict[str, str] = field(default_factory=dict)
    description: str = ""


class Account:
    """A region of an account, asked about one deployment."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        with translated():
            session = boto3.Session(region_name=plan.deployment.region or os.environ.get("AWS_REGION"))
            if not session.region_name:
                raise NoRegionError
        self._session = session
        self.region: str = session.region_name
        self.certificate: str | None = plan.deployment.ingress.certificate_arn

    @property
    def deployment(self) -> Deployment:
        return self.plan.deployment

    @property
    def stack_names(self) -> tuple[str, str]:
        """Of the first stack and of the one with the services."""
        return f"{self.deployment.name}-foundation", f"{self.deployment.name}-serving"

    def client(self, service: str, *, region: str | None = None) -> Any:
        """A boto3 client; typed where it is used."""
        with translated():
            return self._session.client(
                service,  # type: ignore[call-overload]
                region_name=region or self.region,
                config=_CONFIG,
            )

    def stack(self, name: str) -> Stack | None:
        """The stack of that name; None where there is none."""
        try:
            with translated():
                stacks = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return _stack(stacks[0])

    def outputs(self) -> dict[str, str]:
        """What the deployed services tell of themselves.

        Raises:
            Failed: nothing is deployed.
        """
        stack = self.stack(self.stack_names[1])
        if stack is None or not stack.outputs:
            raise Failed(
                f"nothing is deployed as {self.stack_names[1]} in {self.region}: make deploy, or name the "
                "region in tandem.yaml or AWS_REGION"
            )
        return stack.outputs


def _stack(described: StackTypeDef) -> Stack:
    outputs = {one["OutputKey"]: one["OutputValue"] for one in described.get("Outputs", [])}
    return Stack(
        described["StackName"],
        described["StackStatus"],
        described.get("StackStatusReason", ""),
        outputs,
        described.get("Description", ""),
    )
