"""Runs the commands of a build specification as CodeBuild does: in one shell, until one fails.

Reads {"buildspec": text, "variables": {name: value}} from standard input; exits with the status of the build.
The host of REPOSITORY_URI becomes the one in REGISTRY, and a pause of the commands takes a second.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile

import yaml

PHASES = ("install", "pre_build", "build", "post_build")


def script(buildspec: str) -> str:
    """The shell script of all phases."""
    phases = yaml.safe_load(buildspec)["phases"]
    lines = ["sleep() { command sleep 1; }"]
    for phase in PHASES:
        for command in phases.get(phase, {}).get("commands", []):
            lines.append(f"echo {shlex.quote(f'[Container] Running command {command}')}")
            lines.append(f"{{ {command}\n}} || exit 1")
    return "\n".join(lines)


def main() -> int:
    asked = json.load(sys.stdin)
    variables = asked["variables"]
    _, _, repository = variables["REPOSITORY_URI"].partition("/")
    variables["REPOSITORY_URI"] = f"{os.environ['REGISTRY']}/{repository}"
    with tempfile.TemporaryDirectory() as directory:
        command = ["sh", "-c", script(asked["buildspec"])]
        return subprocess.run(
            command, cwd=directory, env={**os.environ, **variables}, stderr=subprocess.STDOUT, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
