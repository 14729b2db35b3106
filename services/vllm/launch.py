"""Starts vLLM and stays with it until it ends: environment -> `Settings` -> command line -> engine.

`python launch.py --print` prints the command line, without adapters, and exits. vLLM itself reads
`VLLM_API_KEY` from the environment, so the key never appears in a process list.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from engine_start.command_line import Model, build_argv, load_models
from engine_start.settings import LaunchError, Settings
from engine_start.start import CHILD_DEFAULTS, files_for, start
from engine_start.supervisor import exit_as

__all__ = ["CHILD_DEFAULTS", "LaunchError", "Model", "Settings", "build_argv", "load_models"]


def main(arguments: list[str]) -> None:
    """Runs vLLM, or prints its command line if called with `--print`."""
    if arguments not in ([], ["--print"]):
        sys.exit(
            f"launch.py: unknown arguments: {shlex.join(arguments)}; only --print is accepted. "
            "Settings are read from environment variables."
        )
    try:
        settings = Settings.from_environment(os.environ)
        if arguments:
            files = files_for(settings, Path.home() / ".cache")
            print(shlex.join(build_argv(settings, load_models(), files)))  # noqa: T201 - the purpose of --print
            return
        status = start(settings, load_models(), os.environ)
    except LaunchError as error:
        sys.exit(f"launch.py: {error}")
    exit_as(status)


if __name__ == "__main__":
    main(sys.argv[1:])
