"""The AWS account of a deployment file. The only module that handles boto3's sessions and errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

from .waiting import Waiting

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef


@dataclass(frozen=True)
class Patience:
    """How long to wait for AWS, in seconds per attempt, and when to report that there is no answer."""

    connect: float = 5
    read: float = 10
    attempts: int = 3
    report_after: float = 5

    @property
    def config(self) -> Config:
        return Config(
            connect_timeout=self.connect,
            read_timeout=self.read,
            retries={"mode": "standard", "total_max_attempts": self.attempts},
        )


PATIENCE = Patience()
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
    """AWS cannot be called: no or expired credentials, no region, or no network. Says how to fix it."""


class Unreachable(NoAccess):
    """An endpoint of AWS does not answer."""


class NotAllowed(Exception):
    """The credentials lack a permission; `action` is its name in IAM."""

    def __init__(self, action: str) -> None:
        super().__init__(f"no permission for {action}")
        self.action = action


class Failed(Exception):
    """AWS rejected a request for another reason, or a command cannot succeed. The message says why."""


@contextmanager
def translated() -> Iterator[None]:
    """Translates botocore's errors into those above; any other `ClientError` passes through.

    Raises:
        NoAccess: AWS cannot be called.
        NotAllowed: A permission is missing.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _EXPIRED:
            raise NoAccess(
                "the credentials have expired; sign in again, for example with: aws sso login"
            ) from None
        if code in _REFUSED:
            raise NoAccess(
                f"AWS rejects these credentials ({code}); check them with: aws sts get-caller-identity"
            ) from None
        if code in _NOT_ALLOWED:
            raise NotAllowed(_action(error)) from None
        raise
    except (SSOError, TokenRetrievalError) as error:
        raise NoAccess(f"the SSO session has expired ({error}); run: aws sso login") from None
    except _NOT_KNOWN:
        raise NoAccess(
            "no AWS credentials found; run aws configure sso, or set AWS_PROFILE, or set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY"
        ) from None
    except NoRegionError:
        raise NoAccess("no region is set; set region in tandem.yaml, or AWS_REGION") from None
    except (HTTPClientError, ConnectionError) as error:
        raise Unreachable(
            f"AWS cannot be reached: {error}. Check the network, proxies, VPN and AWS_ENDPOINT_URL."
        ) from None


def _action(error: ClientError) -> str:
    """Returns the denied action, such as `ecs:DescribeServices`, from AWS's message or the operation."""
    message = error.response.get("Error", {}).get("Message", "")
    _, _, after = message.partition("not authorized to perform: ")
    action = after.split(" ")[0].strip()
    return action if ":" in action else error.operation_name


def code_of(error: ClientError) -> str:
    """Returns AWS's code for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@dataclass
class Stack:
    """A stack of the deployment, as CloudFormation describes it."""

    name: str
    status: str
    reason: str
    outputs: dict[str, str] = field(default_factory=dict)
    description: str = ""


class Account:
    """An account and region, as seen by one deployment."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        with translated():
            session = boto3.Session(region_name=plan.deployment.region or os.environ.get("AWS_REGION"))
            if not session.region_name:
                raise NoRegionError
        self._session = session
        self._waiting = Waiting(PATIENCE.report_after)
        self.region: str = session.region_name
        self.certificate: str | None = plan.deployment.ingress.certificate_arn

    @property
    def deployment(self) -> Deployment:
        return self.plan.deployment

    @property
    def stack_names(self) -> tuple[str, str]:
        """The names of the foundation stack and the serving stack."""
        return f"{self.deployment.name}-foundation", f"{self.deployment.name}-serving"

    def client(self, service: str, *, region: str | None = None) -> Any:
        """Returns a boto3 client; callers add the type."""
        with translated():
            client: Any = self._session.client(
                service,  # type: ignore[call-overload]
                region_name=region or self.region,
                config=PATIENCE.config,
            )
        _report_silence(client, service, self._waiting)
        return client

    def reach(self) -> None:
        """Checks with one small request that AWS answers and accepts the credentials.

        Raises:
            NoAccess: It does not.
        """
        with suppress(NotAllowed), translated():
            self.client("sts").get_caller_identity()

    def stack(self, name: str) -> Stack | None:
        """Returns the stack of that name, or None if it does not exist."""
        described = self.described_stack(name)
        return _stack(described) if described else None

    def described_stack(self, name: str) -> StackTypeDef | None:
        """Returns all that CloudFormation describes of a stack, or None if it does not exist."""
        try:
            with translated():
                stacks: list[StackTypeDef] = self.client("cloudformation").describe_stacks(StackName=name)[
                    "Stacks"
                ]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return stacks[0]

    def outputs(self) -> dict[str, str]:
        """Returns the outputs of the serving stack.

        Raises:
            Failed: Nothing is deployed.
        """
        stack = self.stack(self.stack_names[1])
        if stack is None or not stack.outputs:
            raise Failed(
                f"{self.stack_names[1]} is not deployed in {self.region}; run make deploy, or set another "
                "region in tandem.yaml or AWS_REGION"
            )
        return stack.outputs


def _report_silence(client: Any, service: str, waiting: Waiting) -> None:
    """Reports calls of this client that take long."""

    def start(model: Any, context: dict[str, Any], **_: Any) -> None:
        context["waiting"] = token = object()
        waiting.start(token, f"AWS {service} {model.name}")

    def end(context: dict[str, Any], **_: Any) -> None:
        waiting.end(context.get("waiting"))

    client.meta.events.register_first("before-call", start)
    client.meta.events.register("after-call", end)
    client.meta.events.register("after-call-error", end)


def _stack(described: StackTypeDef) -> Stack:
    outputs = {one["OutputKey"]: one["OutputValue"] for one in described.get("Outputs", [])}
    return Stack(
        described["StackName"],
        described["StackStatus"],
        described.get("StackStatusReason", ""),
        outputs,
        described.get("Description", ""),
    )
