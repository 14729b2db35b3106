"""Installs a lock file into .venv: `python examples/install.py LOCKFILE`. Needs nothing but Python.

It makes .venv if there is none, and removes nothing from it. Instead of pip's hundred lines, it prints one
line of progress and, if pip fails, the end of its output.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

NEEDED = (3, 11)
VENV = Path(".venv")
_PACKAGE = re.compile(r"(?m)^[A-Za-z0-9._-]+(?:\[[^\]]+\])?==")
_TAIL = 15


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} LOCKFILE")
    if sys.version_info < NEEDED:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"Tandem needs Python 3.11 or newer, not {found}: make PYTHON=/path/to/python3.11")
    install(Path(sys.argv[1]))


def install(lock: Path) -> None:
    """Installs what the lock file lists.

    Raises:
        SystemExit: pip failed. The message has the end of its output.
    """
    start = time.monotonic()
    total = len(_PACKAGE.findall(lock.read_text()))
    _show(f"Installing {total} packages into {VENV} ...", end="" if sys.stderr.isatty() else "\n")
    if not (VENV / "bin/python").exists():
        venv.create(VENV, with_pip=True)
    done, output = 0, []
    process = _pip(lock)
    for line in _lines(process):
        output.append(line)
        done += line.startswith(("Collecting ", "Requirement already satisfied"))
        if sys.stderr.isatty():
            doing = "writing files" if line.startswith("Installing collected") else f"{done} of {total}"
            _show(f"\r\033[KInstalling {total} packages into {VENV} ... {doing}", end="")
    if process.returncode:
        tail = "\n".join(output[-_TAIL:])
        _show("")
        sys.exit(
            f"{tail}\npip could not install {lock}. Without a network, set PIP_INDEX_URL to your mirror."
        )
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    _show(f"{clear}Installed {total} packages into {VENV} in {time.monotonic() - start:.0f} s")


def _pip(lock: Path) -> subprocess.Popen[str]:
    command = [
        str(VENV / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
        "--progress-bar", "off", "--no-compile", "--require-hashes", "-r", str(lock),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout
    with process.stdout as lines:
        for line in lines:
            yield line.rstrip()
    process.wait()


def _show(text: str, end: str = "\n") -> None:
    sys.stderr.write(text + end)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
