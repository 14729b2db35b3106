"""The CDK CLI as a child process, whose end is waited for and whose output is read line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .account import Account, Failed

ROOT = Path(__file__).resolve().parents[1]
_TAIL = 30


class Cdk:
    """One run of the CLI."""

    def __init__(self, account: Account, arguments: Sequence[str], *, deployment_file: Path) -> None:
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
            raise Failed("the CDK CLI is not installed: npm ci (make does it)")
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ
            | {
                "AWS_REGION": account.region,
                "CDK_DISABLE_CLI_TELEMETRY": "true",
                "CDK_DISABLE_VERSION_CHECK": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C is ours to handle: the CLI would end at once and say nothing of what goes on in AWS.
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def read(self, each: Callable[[str], None] | None = None) -> None:
        """Reads what it writes, until it has ended."""
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                if each:
                    each(line.rstrip())
        self._process.wait()

    def finish(self, what: str) -> None:
        """
        Raises:
            Failed: it ended with an error, told with the end of its output.
        """
        if self._process.returncode:
            tail = "\n  ".join(self._lines[-_TAIL:])
            raise Failed(f"{what} failed; the end of what the CDK wrote:\n  {tail}")

    def stop(self) -> None:
        """Ends the CLI, not what goes on in AWS."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def show_line(line: str) -> None:
    """Prints a line of the CLI's as it is."""
    sys.stderr.write(f"  {line}\n")
