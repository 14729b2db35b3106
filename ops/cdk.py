"""Runs the CDK CLI as a child process and reads its output line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .account import Failed

ROOT = Path(__file__).resolve().parents[1]
_TAIL = 30
_NOISE = ("Supply a stack id", "Successfully synthesized", ".venv/bin/python app.py: Subprocess exited")


class Cdk:
    """A run of the CLI."""

    def __init__(self, arguments: Sequence[str], *, deployment_file: Path, region: str | None = None) -> None:
        command = [
            "npx",
            "cdk",
            *arguments,
            "-c",
            f"deployment={deployment_file.resolve()}",
            "--ci",
            "--no-color",
        ]
        if not (ROOT / "node_modules" / "aws-cdk").is_dir():
            raise Failed(
                "the CDK CLI is not installed; run npm ci, or use the make targets, which install it"
            )
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ
            | ({"AWS_REGION": region} if region else {})
            | {"CDK_DISABLE_CLI_TELEMETRY": "true", "CDK_DISABLE_VERSION_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # We handle Ctrl-C: the CLI would exit without a word about what continues in AWS.
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def read(self, each: Callable[[str], None] | None = None) -> None:
        """Reads the output until the CLI exits."""
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                if each:
                    each(line.rstrip())
        self._process.wait()

    @property
    def status(self) -> int:
        """The exit status, after the output was read."""
        return self._process.returncode or 0

    def finish(self, what: str) -> None:
        """Checks the exit status.

        Raises:
            Failed: The CLI failed. The message contains the end of its output.
        """
        if self._process.returncode:
            tail = "\n  ".join(self._lines[-_TAIL:])
            raise Failed(f"{what} failed. The CDK's last lines:\n  {tail}")

    def stop(self) -> None:
        """Stops the CLI, but not what is in progress in AWS."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def synth(deployment_file: Path) -> int:
    """Synthesizes into cdk.out and prints what the app and the CLI report; returns the exit status."""
    cdk = Cdk(["synth", "--quiet"], deployment_file=deployment_file)
    try:
        cdk.read(_show)
    except KeyboardInterrupt:
        cdk.stop()
        raise
    return cdk.status


def _show(line: str) -> None:
    if not line.startswith(_NOISE):
        sys.stderr.write(f"{line}\n")
