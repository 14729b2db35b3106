"""AWS on this machine: the emulator as a process, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tests.e2e.engine.serve import free_port

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"
ACCOUNT = "123456789012"
REGION = "us-east-1"

_INSTALLED = ROOT / ".cache" / "emulator"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
# Of the tester's own environment only this reaches a child: no credentials, no endpoint, no proxy.
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


class EmulatorError(RuntimeError):
    """The emulator did not start; the message holds the end of its log."""


class Emulator:
    """A running emulator; what it holds is gone when it ends."""

    def __init__(self, directory: Path, *, order: str = "", build: str = "", registry: str = "") -> None:
        """
        `order`: `soonest` creates what needs others as soon as they are there.
        `build`: command, as JSON, that runs a build; without it, builds are played.
        `registry`: host and port of the registry that a build pushes to.
        """
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._log = directory / "emulator.log"
        self._quotas = directory / "quotas.json"
        self._order = order
        self.build = build
        self._registry = registry
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to take the emulator for AWS; the credentials are no one's."""
        return {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            **aws_credentials(self.url),
            "AWS_CONFIG_FILE": str(self._directory / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self._directory / "no-credentials"),
        }

    def client(self, service: str, *, role: str | None = None) -> Any:
        """A boto3 client of the emulator; with a role's ARN it may do what the role may."""
        session = self.credentials(role) if role else {}
        return boto3.client(
            service,  # type: ignore[call-overload]
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=session.get("AWS_ACCESS_KEY_ID", "test"),
            aws_secret_access_key=session.get("AWS_SECRET_ACCESS_KEY", "test"),
            aws_session_token=session.get("AWS_SESSION_TOKEN"),
            config=Config(retries={"max_attempts": 1}),
        )

    def role(self, part: str) -> str:
        """The ARN of the deployed role whose name contains a part."""
        roles = self.client("iam").list_roles()["Roles"]
        return next(str(one["Arn"]) for one in roles if part in one["RoleName"])

    def credentials(self, role: str) -> dict[str, str]:
        """The environment of a process that acts with a role, by its ARN."""
        session = self.client("sts").assume_role(RoleArn=role, RoleSessionName="rehearsal")["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
        }

    @property
    def ecs(self) -> ECSClient:
        client: ECSClient = self.client("ecs")
        return client

    def set_quotas(self, values: dict[str, float]) -> None:
        """Quotas by code, of which there is not enough; of the others there is."""
        self._quotas.write_text(json.dumps(values))

    def __enter__(self) -> Emulator:
        python = installed()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-m", "tests.rehearsal.emulated_aws"],
                cwd=self._directory,
                env=self.environment
                | {
                    "PYTHONPATH": str(ROOT),
                    "GATEWAY_PORT": str(self._port),
                    "BIND_HOST": "127.0.0.1",
                    "MINISTACK_HOST": "127.0.0.1",
                    "MINISTACK_ACCOUNT_ID": ACCOUNT,
                    "DOCKER_HOST": "unix:///nonexistent.sock",
                    "QUOTAS": str(self._quotas),
                    "ORDER": self._order,
                    "AUTH": "true",  # policies are enforced
                    "BUILD_COMMAND": self.build,
                    "REGISTRY": self._registry,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle: what is deployed is asked to end first
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=5).close()
                return
            time.sleep(0.1)
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
        raise EmulatorError(f"the emulator did not start (status {self._process.poll()}):\n{tail}")

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def aws_credentials(url: str) -> dict[str, str]:
    """Variables with which the emulator at `url` is taken for AWS; the credentials are no one's."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ENDPOINT_URL_S3_FOR_CLOUDFORMATION": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def installed() -> Path:
    """The Python of the emulator's environment, which is made where it is missing or another is asked for."""
    python = _INSTALLED / "bin" / "python"
    wanted = REQUIREMENTS.read_text()
    stamp = _INSTALLED / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(_INSTALLED, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", _INSTALLED], check=True)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
        ]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        stamp.write_text(wanted)
    return python
