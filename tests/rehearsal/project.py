"""A copy of the project to deploy from and to change, and the CDK CLI in it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .emulator import ACCOUNT, REGION, ROOT, Emulator

_DEPLOYED = (".npmrc", "app.py", "cdk.json", "package.json", "tandem.yaml", "infra", "ops", "services")
_LINKED = (".venv", "node_modules")
# A deployment takes 20 s here. One that hangs is reported as such.
_MOST_SECONDS = 600


class CommandFailed(RuntimeError):
    """A command of the CDK ended otherwise than it should; the message holds the end of what it wrote."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended, with all that it wrote."""

    output: str
    seconds: float


class Project:
    """The project's own files, in a directory that is thrown away."""

    def __init__(self, directory: Path, emulator: Emulator) -> None:
        self.directory = directory
        self._emulator = emulator
        for name in _DEPLOYED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, directory / name)
        for name in _LINKED:
            (directory / name).symlink_to(ROOT / name)

    def bootstrap(self) -> Ran:
        return self.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}")

    def deploy(self, *arguments: str, fails: bool = False) -> Ran:
        return self.cdk("deploy", "--all", "--require-approval", "never", *arguments, fails=fails)

    def destroy(self) -> Ran:
        return self.cdk("destroy", "--all", "--force")

    def cdk(self, *arguments: str, fails: bool = False) -> Ran:
        """Runs the CDK CLI.

        Raises:
            CommandFailed: it ended otherwise than expected.
        """
        begun = time.monotonic()
        ended = subprocess.run(
            ["npx", "cdk", *arguments, "--no-color", "--ci"],
            cwd=self.directory,
            env=self._emulator.environment
            | {"CDK_DISABLE_CLI_TELEMETRY": "true", "CDK_DISABLE_VERSION_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MOST_SECONDS,
            check=False,
        )
        output = ended.stdout + ended.stderr
        if (ended.returncode != 0) != fails:
            tail = "\n".join(output.splitlines()[-40:])
            expected = "a failure" if fails else "success"
            raise CommandFailed(
                f"cdk {' '.join(arguments)}: status {ended.returncode}, expected {expected}:\n{tail}"
            )
        return Ran(output, time.monotonic() - begun)

    def ops(self, *arguments: str, status: int = 0, environment: Mapping[str, str] | None = None) -> str:
        """Runs `python -m ops`; what it wrote to standard output.

        Raises:
            CommandFailed: it ended with another status.
        """
        ended = subprocess.run(
            [".venv/bin/python", "-m", "ops", *arguments],
            cwd=self.directory,
            env=self._emulator.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MOST_SECONDS,
            check=False,
        )
        if ended.returncode != status:
            raise CommandFailed(
                f"ops {' '.join(arguments)}: status {ended.returncode}, expected {status}:\n"
                f"{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
            )
        return ended.stdout

    @property
    def deployment_file(self) -> str:
        """The text of tandem.yaml."""
        return (self.directory / "tandem.yaml").read_text()

    def change_orchestrator(self, line: str) -> None:
        """Adds a line to the orchestrator's code."""
        file = self.directory / "services" / "orchestrator" / "orchestrator" / "app.py"
        file.write_text(f"{file.read_text()}\n{line}\n")

    def forget_last_line(self) -> None:
        """Removes the line that was added to the orchestrator's code last."""
        file = self.directory / "services" / "orchestrator" / "orchestrator" / "app.py"
        file.write_text(file.read_text().rstrip().rpartition("\n")[0] + "\n")

    def write(self, path: str, text: str) -> None:
        """Writes a file of the project."""
        (self.directory / path).write_text(text)

    def change_dockerfile(self, before: str, after: str) -> None:
        """Changes the Dockerfile of the orchestrator.

        Raises:
            ValueError: `before` is not there once.
        """
        self._change(self.directory / "services" / "orchestrator" / "Dockerfile", before, after)

    def change_setting(self, line: str, changed: str) -> None:
        """Changes a line of tandem.yaml.

        Raises:
            ValueError: the line is not there once.
        """
        self._change(self.directory / "tandem.yaml", line, changed)

    def _change(self, file: Path, before: str, after: str) -> None:
        text = file.read_text()
        if text.count(before) != 1:
            raise ValueError(f"{file.name} has {text.count(before)} times {before!r}")
        file.write_text(text.replace(before, after))
